"""The HTTP receiver, the part of ingestion that needs Django."""
