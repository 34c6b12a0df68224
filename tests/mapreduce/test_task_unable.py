"""Task code that fails on one host, maybe because of the host, is tried on another before the failure is final."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mapreduce.exceptions import MapFailedError
from mapreduce.job.spec import JobStatus, Output
from mapreduce.step.map import MapCounts, MapJob, run_map
from mapreduce.step.spill import RunWriter
from tests.support.durations import assert_within, seconds
from tests.support.mapreduce.cluster import Cluster
from tests.support.mapreduce.jobs import Data, Events, T, job, types, values

GEOIP = "def country(name):\n    return name\n\n\ndef add(values):\n    return sum(values)\n"
SMALL, PLANNED = {"map_job_size": 10_000}, {"map_job_size": 100}
LAZY: dict[str, dict[str, Any]] = {
    "map": {"map_name": "by_country"},
    "map that skips": {"map_name": "by_country", "on_error": "skip"},
    "reduce": {"reduce_name": T + "add_with_geoip"},
    "late reduce": {"reduce_name": T + "add_with_geoip", "associative": False},
    "finalize": {"finalize_name": T + "finalize_with_geoip"},
}
WITHIN_S = 30.0


def start(cluster: Cluster, *equipped: bool) -> None:
    """Start a router and a worker on each of several hosts, in this order; the `equipped` ones have the module."""
    folder = cluster.folder / "equipped"
    folder.mkdir()
    (folder / "zarkov_test_geoip.py").write_text(GEOIP)
    cluster.start_router()
    for number, has_it in enumerate(equipped):
        path = f'export PYTHONPATH="$PYTHONPATH:{folder}"; ' if has_it else ""
        named = f'hostname host{number} && {path}exec "$@"'
        cluster.start_worker(("unshare", "--uts", "sh", "-c", named, "sh"))
        cluster.ready(number + 1)


def run(cluster: Cluster, database: Data, **changes: Any) -> JobStatus:
    outputs = {"": Output("zagg.x", "merge")}
    spec = job(database, **{"outputs": outputs, **changes})
    return cluster.engine.wait(cluster.engine.submit(spec), 200)


@pytest.mark.parametrize("limits", [SMALL, PLANNED], ids=["small", "planned"])
@pytest.mark.parametrize("lazy", LAZY.values(), ids=LAZY)
def test_a_host_without_a_module_that_a_task_imports_late_leaves_the_work_to_others(
    cluster: Cluster, database: Data, events: Events, lazy: dict[str, Any], limits: dict[str, int]
) -> None:
    start(cluster, False, True)

    def attempt() -> None:
        status = run(cluster, database, **lazy, **limits)
        assert status.state == "complete", status
        assert status.progress["skipped_count"] == 0
        assert values(database) == types(events)

    assert_within(WITHIN_S, partial(seconds, attempt), tries=1, rounds=3)


@pytest.mark.parametrize("hosts", [1, 2, 3])
@pytest.mark.parametrize("limits", [SMALL, PLANNED], ids=["small", "planned"])
def test_what_fails_on_two_hosts_or_on_the_only_one_is_final(
    cluster: Cluster, database: Data, events: Events, hosts: int, limits: dict[str, int]
) -> None:
    start(cluster, *[False] * hosts)
    status = run(cluster, database, map_name="by_country", on_error="fail", **limits)
    assert status.error is not None
    assert (status.state, status.error["code"]) == ("error", "map_failed")
    assert "map failed on document " in status.error["message"]
    assert "ModuleNotFoundError: No module named 'zarkov_test_geoip'" in status.error["message"]
    assert "in by_country" in status.error["details"]["traceback"]

    status = run(cluster, database, map_name="by_country", on_error="skip", **limits)
    assert status.state == "complete", status
    assert status.progress["skipped_count"] == status.progress["docs_in"] == len(events)
    assert values(database) == {}
    assert not any(worker["failures"] for worker in cluster.engine.config()["workers"])


def mapped(error: Exception, tmp_path: Path, *, elsewhere: bool, before: bool) -> MapCounts:
    """Map ten documents with `skip`, of which the sixth fails with `error`, and the second with another if `before`."""

    def fail(documents: Any) -> Any:
        for document in documents:
            if document["_id"] == 2 and before:
                raise ValueError("two")
            if document["_id"] == 6:
                raise error
            yield "k", 1

    documents = [{"_id": number} for number in range(10)]
    functions = MapJob(fail, None, labelled=False, partitions=1, spill_bytes=2**20)
    make: Callable[[], RunWriter] = lambda: RunWriter(tmp_path / "run")  # noqa: E731
    return run_map(functions, lambda: [documents], make, skip=True, elsewhere=elsewhere)[1]


@pytest.mark.parametrize("before", [False, True])
def test_no_document_is_left_out_for_a_reason_of_the_host_while_there_is_another(tmp_path: Path, before: bool) -> None:
    with pytest.raises(MapFailedError, match="map failed on document 6: FileNotFoundError: "):
        mapped(FileNotFoundError(2, "No such file"), tmp_path, elsewhere=True, before=before)


@pytest.mark.parametrize(("error", "elsewhere"), [(FileNotFoundError(2, "No such file"), False), (KeyError("x"), True)])
@pytest.mark.parametrize("before", [False, True])
def test_other_documents_on_which_a_map_fails_are_left_out(
    tmp_path: Path, error: Exception, elsewhere: bool, before: bool
) -> None:
    found = mapped(error, tmp_path, elsewhere=elsewhere, before=before)
    assert found.skipped_ids == ([2, 6] if before else [6])
