"""Aggregate definitions as plain values: their fields, the checks of each, and the dependencies between them."""
