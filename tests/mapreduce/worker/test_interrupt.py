"""A worker that is stopped in an orderly way says so, and Ctrl-C in its terminal does not reach its executors."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.mapreduce.cluster import Cluster
from tests.support.waiting import eventually


def test_an_announced_stop_causes_no_warning_and_executors_are_in_a_process_group_of_their_own(
    mongo_uri: str, tmp_path: Path
) -> None:
    cluster = Cluster(tmp_path, mongo_uri, "test_zmr_interrupt")
    try:
        cluster.start(workers=1)
        worker = cluster.workers[0]
        assert all(os.getpgid(executor.pid) != os.getpgid(worker.pid) for executor in cluster.executors(worker))
        worker.terminate()
        eventually(lambda: "worker gone" in cluster.log())
        (line,) = [line for line in cluster.log().splitlines() if "worker gone" in line]
        assert " INFO " in line
        assert line.endswith("reason='it stopped'")
    finally:
        cluster.stop()
