"""Check who may do what over HTTP: logins, tokens, roles, and whether a stream may stay open."""
