"""Steps of a job, shared by all engines: split, map, shuffle, reduce, commit."""
