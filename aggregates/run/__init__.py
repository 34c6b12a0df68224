"""Plan, record, perform, resume and verify runs. Imports no Django.

The state of an aggregate is one document of `agg.position` in MongoDB: how far it is, what is in progress and which
process is working on it. Output names appear here without the prefixes `zagg.` and `zgen.`.
"""
