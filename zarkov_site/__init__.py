"""The site: configuration, processes, Django settings and urls. Everything else lies in the rooms below it."""
