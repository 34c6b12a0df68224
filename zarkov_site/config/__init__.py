"""The configuration object: keys, sources, value types and the home folder."""
