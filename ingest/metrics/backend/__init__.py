"""Backends: each takes measurements from the broker to one other system. The base class is `backend.base.Backend`."""
