"""Metrics for `/metrics`: requests to this site, and the state of all other processes as recorded in MongoDB."""
