"""REST below `/api/v1/` (DESIGN section 8)."""
