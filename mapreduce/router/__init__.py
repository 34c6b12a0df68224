"""The router process: takes requests, hands steps to workers and records jobs."""
