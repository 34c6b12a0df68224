"""What `/metrics` shows: this site's requests, and the state of every other process as MongoDB has it."""
