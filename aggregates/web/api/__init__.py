"""Serve the REST API below `/api/v1/` (DESIGN section 8)."""
