"""The site: configuration, processes, Django settings and URLs. Everything else is in the packages below it."""
