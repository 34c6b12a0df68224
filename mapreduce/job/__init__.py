"""Job descriptions: what a job is, which functions it may name, and the checks of both."""
