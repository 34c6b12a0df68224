"""Wire formats: what an event is, how bytes become events, and how refused input is described."""
