"""Aggregate definitions as plain values: their fields, the checks of each, and how they depend on each other."""
