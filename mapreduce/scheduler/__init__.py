"""Pure decisions of the router: which worker runs which step, and how the state of a job changes."""
