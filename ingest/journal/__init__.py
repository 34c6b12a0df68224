"""The write-ahead journal: records in segments on disk, read as blocks."""
