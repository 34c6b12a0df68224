"""Backends: each delivers measurements from the broker to one other system. Their base class is `interface.Backend`."""
