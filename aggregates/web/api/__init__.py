"""Serve the REST API below `/api/v1/`."""
