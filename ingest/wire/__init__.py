"""Wire formats: the rules for events, the readers that turn bytes into events, and refusals."""
