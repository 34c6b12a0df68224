"""The steps of a job as every engine performs them: split, map, shuffle, reduce, commit."""
