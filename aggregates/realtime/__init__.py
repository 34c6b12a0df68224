"""Keep realtime aggregates current: refresh them when new events become readable."""
