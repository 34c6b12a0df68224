"""Job descriptions, the functions that a job can name, and the validation of both."""
