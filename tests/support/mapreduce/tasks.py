"""Map, reduce and other functions that test jobs name; the tests allow this module."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil


def by_type(events):
    for event in events:
        yield event["type"], 1


def by_day(events):
    for event in events:
        yield f"{event['project']}/{event['timestamp']:%Y-%m-%d}", 1


def lines_by_day(events):
    for event in events:
        yield f"{event['context']['project']}/{event['timestamp']:%Y-%m-%d}", [1, event["extra"]["insertions"]]


def add_each(key, values):
    return [sum(column) for column in zip(*values, strict=True)]


def as_given(documents):
    """Yield the `pairs` of each document, a list of `[key, value]`."""
    for document in documents:
        yield from document["pairs"]


def two_outputs(events):
    for event in events:
        yield {"c": "types", "k": event["type"], "v": 1}
        yield {"c": "days", "k": f"{event['timestamp']:%Y-%m-%d}", "v": 1}


def add(key, values):
    return sum(values)


def joined(key, values):
    """Return one list of all lists."""
    return [item for value in values for item in value]


def add_slowly(key, values):
    time.sleep(0.001)
    return sum(values)


def gather(key, values):
    """Return the sorted list of all values; not associative."""
    return sorted(values)


def average(key, values):
    """Return the mean; not associative."""
    found = list(values)
    return sum(found) / len(found)


def doubled(key, value):
    return value * 2


def spoil(key, value):
    """Change the argument, which must not be the stored state."""
    value["n"] = -1
    return value


def add_n(key, values):
    return {"n": sum(value["n"] for value in values)}


def ones(events):
    for event in events:
        yield event["type"], {"n": 1}


def fail_on_seven(events):
    for event in events:
        if event["_id"] == 7:
            raise ValueError("seven is not allowed")
        yield event["type"], 1


def read_ahead_and_fail(events):
    for event in list(events):
        if event["_id"] == 7:
            raise ValueError("seven is not allowed")
        yield event["type"], 1


def no_pairs(events):
    for event in events:
        yield event["type"]


def list_keys(events):
    for event in events:
        yield [event["type"]], 1


def fail_to_add(key, values):
    raise RuntimeError("cannot add")


def fail_to_finalize(key, value):
    raise RuntimeError("cannot finalize")


def by_country(events):
    """Import a module when it is needed, which some hosts may lack."""
    for event in events:
        import zarkov_test_geoip

        yield zarkov_test_geoip.country(event["type"]), 1


def add_with_geoip(key, values):
    import zarkov_test_geoip

    return zarkov_test_geoip.add(values)


def finalize_with_geoip(key, value):
    import zarkov_test_geoip

    return zarkov_test_geoip.add([value])


def unstorable(events):
    for event in events:
        yield event["type"], {1, 2}


class Weighted:
    """A class whose methods jobs name; made with the params of the job."""

    def __init__(self, weight: int = 1) -> None:
        self.weight = weight

    def map(self, events):
        for event in events:
            yield event["type"], self.weight

    def reduce(self, key, values):
        return sum(values)


def multiply(one: int, other: int = 1) -> int:
    return one * other


def raise_it() -> None:
    raise LookupError("nothing there")


def whereabouts() -> dict[str, Any]:
    return {"pid": os.getpid(), "parent": os.getppid()}


def hold_interpreter(seconds: float) -> None:
    """Hold the interpreter lock all the time, so that no other thread of this process runs."""
    ctypes.PyDLL(None).poll(None, 0, int(seconds * 1000))


def busy_map(events):
    """Spend about 20 microseconds per document."""
    for event in events:
        end = time.perf_counter() + 20e-6
        while time.perf_counter() < end:
            pass
        yield event["type"], 1


def gated_map(events):
    """Wait, split by split, while the file named by the environment variable exists."""
    gate = Path(os.environ["ZARKOV_TEST_GATE"])
    for event in events:
        while gate.exists():
            time.sleep(0.005)
        yield event["type"], 1


def stop_parent_once(flag: str) -> None:
    """Send SIGSTOP to the worker of this process, the first time only."""
    with Path(flag).open("x"):
        psutil.Process(os.getppid()).send_signal(signal.SIGSTOP)


class Sleeper:
    """Sleep `seconds` per document of a split."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def map(self, documents):
        for document in documents:
            time.sleep(self.seconds)
            yield document.get("type", "x"), 1


class Half:
    """Block on ids above `last` while the file `gate` exists; started ids are in `log`."""

    def __init__(self, log: str, gate: str, last: int) -> None:
        self.log, self.gate, self.last = Path(log), Path(gate), last

    def map(self, documents):
        for document in documents:
            with self.log.open("a") as file:
                file.write(f"{document['_id']}\n")
            while document["_id"] > self.last and self.gate.exists():
                time.sleep(0.01)
            yield document["type"], 1


class Forever:
    """Block on one document while the file `gate` exists."""

    def __init__(self, gate: str, number: int = 7) -> None:
        self.gate = Path(gate)
        self.number = number

    def map(self, events):
        for event in events:
            while event["_id"] == self.number and self.gate.exists():
                time.sleep(0.005)
            yield event["type"], 1

    def finalize(self, key, value):
        while self.number < 0 and self.gate.exists():
            time.sleep(0.005)
        return value


def grow(size: int) -> int:
    """Allocate memory and keep it."""
    HELD.append(b"x" * size)
    return os.getpid()


HELD: list[bytes] = []


def wide(events):
    """Yield output that is too big for messages."""
    for event in events:
        yield f"{event['type']}{'.' * 4_000}{event['_id'] % 100}", 1


def slow_wide(events):
    """Yield output that is too big for messages, at 50 ms per 100 events."""
    for event in events:
        time.sleep(0.0005)
        yield f"{event['type']}{'.' * 4_000}{event['_id'] % 100}", 1


def slow_types(events):
    for event in events:
        time.sleep(0.0005)
        yield f"{event['type']}{event['_id'] % 400}", 1


def slow_copy(key, value):
    time.sleep(0.0005)
    return value


def nap(seconds: float) -> None:
    time.sleep(seconds)


def leave_on_seven(events):
    for event in events:
        if event["_id"] == 7:
            raise SystemExit(0)
        yield event["type"], 1


def surrogate_on_seven(events):
    for event in events:
        if event["_id"] == 7:
            raise ValueError("b\ud800oom")
        yield event["type"], 1


def leave():
    raise SystemExit(3)


def big(count, depth):
    """Return a result of `count` bytes in `depth` nested documents."""
    found = "x" * count
    for _ in range(depth):
        found = {"a": found}
    return found
