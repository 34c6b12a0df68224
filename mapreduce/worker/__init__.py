"""The worker process: runs steps in executor processes and serves their map output."""
