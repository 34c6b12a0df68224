"""The write-ahead journal: records in segment files, read back as blocks."""
