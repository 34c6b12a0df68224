"""Django's backend for SQLite, in which whoever waits for a lock lets others run."""
