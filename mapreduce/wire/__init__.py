"""Messages between router, workers and executors, and the CURVE keys of their sockets."""
