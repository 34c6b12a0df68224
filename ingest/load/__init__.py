"""Load events from files and collections, and replay quarantined input."""
