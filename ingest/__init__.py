"""Ingestion: receive events, journal them, commit them to MongoDB; and the clients that send them."""

__version__ = "1.0.0"
