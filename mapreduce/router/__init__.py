"""The router process: accepts requests, assigns steps to workers and records jobs."""
