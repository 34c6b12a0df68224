"""The Django edge of ingestion."""
