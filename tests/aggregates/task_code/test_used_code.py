"""The code of a task is everything that it names, directly or indirectly, and nothing else."""

from __future__ import annotations

import pytest

from aggregates.task_code.used_code import WHOLE_MODULE, find_used_code, parse

TASKS = """
import json
from shop import helper
from shop.prices import price as cost, OTHER
import shop.deep.er
from aggregates.task import Task

LIMIT = 5
UNUSED = 6
TABLE = {}
TABLE["a"] = 1

def small(n):
    return n < LIMIT

class Parent(Task):
    def reduce(self, key, values):
        return sum(values)

class Mine(Parent):
    def map(self, events):
        from shop import late
        for event in events:
            if small(event["n"]):
                yield helper.name(event), cost(event) + TABLE["a"] + shop.deep.er.K + late.L

class Neighbour(Task):
    def map(self, events):
        yield OTHER, json.dumps(UNUSED)
"""
PROJECT = {
    "shop": "",
    "shop.agg_tasks": TASKS,
    "shop.helper": "from .names import title\n\ndef name(event):\n    return title(event)\n\ndef unused():\n    pass\n",
    "shop.names": "import math\n\ndef title(event):\n    return math.pi\n\nZ = 1\n",
    "shop.prices": "price = lambda event: RATE\nRATE = 2\nOTHER = 3\n",
    "shop.deep": "",
    "shop.deep.er": "K = 1\nJ = 2\n",
    "shop.late": "L = 1\nM = 2\n",
}
PACKAGES = {"shop", "shop.deep"}


def found(project, name="Mine", module="shop.agg_tasks"):
    modules = {key: parse(key, text, package=key in PACKAGES) for key, text in project.items()}
    return find_used_code([(module, name)], modules.get)


def changed(module, old, new, name="Mine", project=PROJECT):
    assert old in project[module]
    return (
        found(project, name).version() != found({**project, module: project[module].replace(old, new)}, name).version()
    )


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("shop.agg_tasks", "event in events:\n            if", "event in list(events):\n            if"),
        ("shop.agg_tasks", "n < LIMIT", "n <= LIMIT"),
        ("shop.agg_tasks", "LIMIT = 5", "LIMIT = 7"),
        ("shop.agg_tasks", "return sum(values)", "return max(values)"),
        ("shop.agg_tasks", 'TABLE["a"] = 1', 'TABLE["a"] = 2'),
        ("shop.agg_tasks", "import price as cost", "import OTHER as cost"),
        ("shop.helper", "return title(event)", "return title(event) + 'x'"),
        ("shop.names", "math.pi", "math.e"),
        ("shop.prices", "RATE = 2", "RATE = 4"),
        ("shop.deep.er", "K = 1", "K = 5"),
        ("shop.late", "L = 1", "L = 5"),
    ],
)
def test_a_change_of_what_a_task_uses_is_detected_in_every_module(module, old, new):
    assert changed(module, old, new)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("shop.agg_tasks", "UNUSED = 6", "UNUSED = 7"),
        ("shop.agg_tasks", "class Neighbour(Task):", "class Renamed(Task):\n    x = 1\n"),
        ("shop.agg_tasks", "import json", "import json, os"),
        ("shop.agg_tasks", "import price as cost, OTHER", "import price as cost, OTHER, RATE"),
        ("shop.agg_tasks", "UNUSED = 6", "def more():\n    return UNUSED\n"),
        ("shop.helper", "    pass", "    return 1"),
        ("shop.names", "Z = 1", "Z = 2"),
        ("shop.prices", "OTHER = 3", "OTHER = 4"),
        ("shop.deep.er", "J = 2", "J = 3"),
        ("shop.late", "M = 2", "M = 3"),
    ],
)
def test_a_change_of_anything_else_is_ignored(module, old, new):
    assert not changed(module, old, new)


@pytest.mark.parametrize(
    ("text", "helper", "new"),
    [
        ("from shop import helper\ndef mine():\n    return getattr(helper, 'W')\n", "W = 1\n", "W = 2\n"),
        ("from shop.helper import *\ndef mine():\n    return W\n", "W = 1\n", "W = 2\n"),
        ("from shop import helper as h\nmine = make(h)\ndef make(m):\n    return m.W\n", "W = 1\n", "W = 2\n"),
        ("import shop.helper\nmine = vars(shop.helper)\n", "W = 1\n", "W = 2\n"),
        ("from shop.helper import W\nmine = W\n", "from shop.more import W\n", "from shop.other import W\n"),
        ("try:\n    from shop.helper import W\nexcept ImportError:\n    W = 0\nmine = W\n", "W = 1\n", "W = 2\n"),
    ],
)
def test_what_cannot_be_traced_counts_as_a_whole(text, helper, new):
    project = {"shop": "", "shop.agg_tasks": text, "shop.helper": helper, "shop.more": "", "shop.other": ""}
    assert changed("shop.helper", helper, new, "mine", project)


@pytest.mark.parametrize(
    "computed", ["eval('W')", "__import__('x')", "importlib.import_module('x')", "undefined_anywhere"]
)
def test_a_module_that_computes_its_names_counts_as_a_whole(computed):
    project = {"shop": "", "shop.agg_tasks": f"import importlib\nW = 1\ndef mine():\n    return {computed}\n"}
    assert changed("shop.agg_tasks", "W = 1", "W = 2", "mine", project)


def test_the_fallback_of_a_failing_import_is_detected():
    text = "try:\n    from shop.helper import W\nexcept ImportError:\n    W = 0\nmine = W\n"
    project = {"shop": "", "shop.agg_tasks": text, "shop.helper": "W = 1\n"}
    assert changed("shop.agg_tasks", "W = 0", "W = 2", "mine", project)


def test_modules_come_after_those_that_they_use_and_libraries_are_left_out():
    order = found(PROJECT).modules()
    assert "json" not in order
    assert order.index("shop.names") < order.index("shop.helper") < order.index("shop.agg_tasks")
    assert found(
        {
            "shop.agg_tasks": "import shop.b\nx = shop.b.y\n",
            "shop": "",
            "shop.b": "import shop.agg_tasks\ny = shop.agg_tasks.x\n",
        },
        "x",
    ).modules()


def test_a_whole_module_includes_everything_that_it_uses():
    assert changed("shop.prices", "OTHER = 3", "OTHER = 4", WHOLE_MODULE)
    assert not changed("shop.deep.er", "J = 2", "J = 3", WHOLE_MODULE)
