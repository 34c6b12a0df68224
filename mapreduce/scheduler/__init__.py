"""Pure decisions of the router: which worker does which step, and what becomes of a job."""
