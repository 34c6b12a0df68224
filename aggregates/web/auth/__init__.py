"""Decide who may do what over HTTP: logins, tokens, roles and how long a stream may stay open."""
