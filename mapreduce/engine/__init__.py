"""Engines that run map-reduce jobs, and the interface they share."""

from mapreduce.engine.interface import Engine, open_engine

__all__ = ["Engine", "open_engine"]
