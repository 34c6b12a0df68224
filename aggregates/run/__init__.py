"""Runs: planned, recorded, performed, resumed and proven right. Imports no Django.

The truth about an aggregate lies in MongoDB: one document of `agg.position` says how far it is, what is under way and
who does it. Everything here goes by names of outputs, without the prefixes `zagg.` and `zgen.`.
"""
