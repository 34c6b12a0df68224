"""One worker cannot work, beside a healthy one that is idle: jobs take seconds, and their results are right."""

from __future__ import annotations

import collections
import contextlib
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from mapreduce.job.spec import JobSpec, Output, Source
from mapreduce.scheduler.worker_health import WORKING
from mapreduce.store_identity import COLLECTION
from tests.support.durations import assert_within, seconds
from tests.support.mapreduce.cluster import Cluster
from tests.support.mapreduce.jobs import Data, Events, T, job, types, values
from tests.support.mapreduce.liar import EMPTY, FORGETFUL, PROGRESS, SILENT, Liar
from tests.support.mongo import open_client
from tests.support.ports import reserved_addresses
from tests.support.waiting import eventually
from zarkov_site.config.home import HomeFolder
from zarkov_site.processes.mongod import LocalMongod

pytestmark = pytest.mark.early

WITHIN_S = 30.0  # without these mechanisms, 148 s or for ever


def start(cluster: Cluster, prefix: tuple[str, ...] = (), **changes: Any) -> subprocess.Popen[bytes]:
    """Start a router, a worker that is bad in some way, and then a healthy one: the bad one is offered steps first."""
    cluster.start_router()
    bad = cluster.start_worker(prefix, **changes)
    cluster.ready(1)
    cluster.start_worker()
    cluster.ready(2)
    return bad


def complete(cluster: Cluster, spec: JobSpec) -> None:
    status = cluster.engine.wait(cluster.engine.submit(spec), 200)
    assert status.state == "complete", status


def jobs_within(cluster: Cluster, make: Callable[[], JobSpec], check: Callable[[], None], limit_s: float) -> None:
    """Assert that a job completes in time, and the ones after it."""

    def attempt() -> float:
        took_s = seconds(lambda: complete(cluster, make()))
        check()
        return took_s

    for _ in range(2):
        assert_within(limit_s, attempt, tries=1, rounds=3)


def check_types(database: Data, events: Events) -> None:
    assert values(database) == types(events)


def health(cluster: Cluster, pid: int) -> dict[str, Any]:
    found = cluster.engine.config()["workers"]
    return next(worker for worker in found if worker["name"].endswith(f":{pid}"))


@pytest.fixture
def mute() -> Iterator[str]:
    """Yield the address of a MongoDB that accepts connections and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"mongodb://127.0.0.1:{listener.getsockname()[1]}/"


def refusing() -> str:
    (address,) = reserved_addresses(1)
    return f"mongodb://{address.removeprefix('tcp://')}/"


@pytest.mark.parametrize("answers", [False, True], ids=["mute", "refuses"])
@pytest.mark.parametrize("small", [False, True])
def test_a_worker_without_mongodb_delays_jobs_by_seconds(
    cluster: Cluster, database: Data, events: Events, mute: str, answers: bool, small: bool
) -> None:
    bad = start(cluster, mongo_uri=refusing() if answers else mute)
    limits = {"map_job_size": 10_000} if small else {}

    def make() -> JobSpec:
        return job(database, outputs={"": Output("zagg.x", "merge")}, **limits)

    jobs_within(cluster, make, partial(check_types, database, events), WITHIN_S)
    eventually(lambda: health(cluster, bad.pid)["state"] != WORKING, what="the worker backs off")
    eventually(lambda: health(cluster, bad.pid)["reason"].startswith("store_unavailable: "), what="it says why")


@pytest.fixture
def other_mongodb(tmp_path: Path) -> Iterator[str]:
    """Yield the address of another MongoDB, which is empty."""
    mongod = LocalMongod(HomeFolder(tmp_path / "other"))
    try:
        yield mongod.start()
    finally:
        mongod.stop()


@pytest.mark.parametrize("restored", [False, True], ids=["empty", "restored"])
@pytest.mark.parametrize("small", [False, True])
def test_a_worker_of_another_mongodb_does_nothing_and_says_why(
    cluster: Cluster, database: Data, events: Events, other_mongodb: str, restored: bool, small: bool
) -> None:
    """The other one may be a test system, which was filled from a backup of the first one."""
    bad = start(cluster, mongo_uri=other_mongodb)
    with open_client(other_mongodb) as client:
        if restored:
            client[database.name]["event.1"].insert_many(events[:100])
            client[database.name][COLLECTION].insert_many(database[COLLECTION].find())
        before = client[database.name].list_collection_names()
        limits = {"map_job_size": 10_000} if small else {}

        def make() -> JobSpec:
            return job(database, outputs={"": Output("zagg.x", "merge" if small else "replace")}, **limits)

        jobs_within(cluster, make, partial(check_types, database, events), WITHIN_S)
        assert client[database.name].list_collection_names() == before
    eventually(lambda: health(cluster, bad.pid)["state"] != WORKING, what="the worker backs off")
    assert re.fullmatch(
        r"other_store: this worker's MongoDB at 127\.0\.0\.1:\d+ is not the router's: set mongo_uri as on the "
        "router's host",
        health(cluster, bad.pid)["reason"],
    )


@pytest.fixture
def reader(mongo_client: Any, mongo_uri: str) -> Iterator[str]:
    """Yield the address of this test's MongoDB with a login that may only read."""
    mongo_client.admin.command("createUser", "reader", pwd="secret", roles=["readAnyDatabase"])
    login, _, rest = mongo_uri.removeprefix("mongodb://").partition("@")
    assert login
    yield f"mongodb://reader:secret@{rest}"
    mongo_client.admin.command("dropUser", "reader")


@pytest.mark.parametrize("changes", [{"map_job_size": 10_000}, {}], ids=["small", "planned"])
@pytest.mark.parametrize("output_type", ["merge", "replace"])
def test_a_worker_whose_login_may_only_read_delays_jobs_by_seconds(
    cluster: Cluster, database: Data, events: Events, reader: str, output_type: str, changes: dict[str, int]
) -> None:
    bad = start(cluster, mongo_uri=reader)

    def make() -> JobSpec:
        return job(database, outputs={"": Output("zagg.x", output_type)}, **changes)

    jobs_within(cluster, make, partial(check_types, database, events), WITHIN_S)
    if changes or output_type == "replace":  # else, the healthy worker may have done all that writes
        eventually(lambda: "not authorized" in health(cluster, bad.pid)["reason"], what="it says why")


def test_a_job_that_no_login_may_do_ends_in_that_error(
    cluster: Cluster, database: Data, events: Events, reader: str
) -> None:
    cluster.start_router()
    for _ in range(2):
        cluster.start_worker(mongo_uri=reader)
    cluster.ready(2)
    spec = job(database, outputs={"": Output("zagg.x", "merge")}, map_job_size=10_000)
    status = cluster.engine.wait(cluster.engine.submit(spec), 200)
    assert status.state == "error"
    assert status.error is not None
    assert status.error["code"] == "store_refused"
    assert "not authorized" in status.error["message"]


def test_an_identity_that_somebody_drops_is_made_again(cluster: Cluster, database: Data, events: Events) -> None:
    cluster.start(1)
    database[COLLECTION].drop()
    make = partial(job, database, outputs={"": Output("zagg.x", "merge")})
    jobs_within(cluster, make, partial(check_types, database, events), WITHIN_S)


@pytest.mark.parametrize("kind", [SILENT, FORGETFUL, PROGRESS, EMPTY])
@pytest.mark.parametrize("published", [False, True])
def test_a_worker_that_lies_delays_jobs_by_seconds(
    cluster: Cluster, database: Data, events: Events, kind: str, published: bool
) -> None:
    cluster.start_router()
    with Liar(cluster.values["worker_bind"], kind) as liar:
        eventually(lambda: cluster.idle() == 1, what="the liar has joined")
        cluster.start_worker()
        cluster.ready(2)
        outputs = {"": Output("zagg.x", "replace" if published else "merge")}
        make = partial(job, database, outputs=outputs)
        jobs_within(cluster, make, partial(check_types, database, events), WITHIN_S)
        assert liar.steps


@pytest.mark.parametrize("kind", [SILENT, FORGETFUL])
@pytest.mark.parametrize("count", [5, 20])
def test_many_workers_that_only_claim_to_work_delay_the_first_job_after_a_start_by_seconds(
    cluster: Cluster, database: Data, events: Events, count: int, kind: str
) -> None:
    """Nothing is known of any worker then; each would cost 5 s or more if its turn came after that of the others."""

    def first() -> float:
        cluster.start_router()
        with contextlib.ExitStack() as liars:
            for number in range(count):
                liars.enter_context(Liar(cluster.values["worker_bind"], kind, f"liar{number}:1"))
            eventually(lambda: cluster.idle() == count, what="the liars have joined")
            cluster.start_worker()
            cluster.ready(count + 1)
            took_s = seconds(lambda: complete(cluster, job(database, outputs={"": Output("zagg.x", "merge")})))
        check_types(database, events)
        for process in [*cluster.workers, cluster.router]:
            assert process is not None
            cluster.kill(process)
        return took_s

    assert_within(8.0, first, tries=1, rounds=3)


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("kind", [SILENT, FORGETFUL])
def test_a_call_is_not_given_to_workers_that_only_claim_to_work(cluster: Cluster, kind: str, count: int) -> None:
    def call() -> None:
        status = cluster.engine.wait(cluster.engine.submit_call(T + "multiply", [6], {"other": 7}), 200)
        assert (status.state, status.result) == ("complete", 42)

    cluster.start_router()
    with contextlib.ExitStack() as entered:
        liars = [
            entered.enter_context(Liar(cluster.values["worker_bind"], kind, f"liar{number}:1"))
            for number in range(count)
        ]
        eventually(lambda: cluster.idle() == count, what="the liars have joined")
        cluster.start_worker()
        cluster.ready(count + 1)
        assert_within(8.0, lambda: seconds(call), tries=1, rounds=3)
        assert "probe" in liars[0].steps
        assert not any("call" in liar.steps for liar in liars)


def test_a_worker_with_a_full_disk_leaves_the_work_to_others(cluster: Cluster, database: Data, events: Events) -> None:
    """The worker has a file system of 64 KiB for its map output, which is bigger than messages."""
    tiny = cluster.folder / "tiny"
    tiny.mkdir()
    mounted = f'mount -t tmpfs -o size=64k tiny {tiny} && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", mounted, "sh")
    bad = start(cluster, prefix, job_root=str(tiny), spill_bytes=100_000)
    expected = collections.Counter(f"{event['type']}{'.' * 4_000}{event['_id'] % 100}" for event in events)

    def check() -> None:
        assert values(database) == expected

    def make() -> JobSpec:
        sources = (Source(("event.1", "event.2"), T + "wide"),)
        return job(database, sources=sources, outputs={"": Output("zagg.x", "merge")}, on_error="skip")

    jobs_within(cluster, make, check, WITHIN_S)
    assert "No space left on device" in cluster.log()
    assert "worker_unable" in health(cluster, bad.pid)["reason"]


@contextlib.contextmanager
def slowed(worker: subprocess.Popen[bytes], share: float = 0.01) -> Iterator[None]:
    """Let the executors of a worker run for only a `share` of the time."""
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            for on in (False, True):
                for child in psutil.Process(worker.pid).children():
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.resume() if on else child.suspend()
                ended.wait(0.5 * share if on else 0.5)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)


def test_a_worker_a_hundred_times_slower_delays_jobs_by_seconds(
    cluster: Cluster, database: Data, events: Events
) -> None:
    bad = start(cluster)
    with slowed(bad):
        make = partial(job, database, outputs={"": Output("zagg.x", "merge")})
        jobs_within(cluster, make, partial(check_types, database, events), WITHIN_S)


@pytest.mark.parametrize("changes", [{"serves": False}, {"fetches": False}, {"serves": False, "fetches": False}])
@pytest.mark.parametrize("healthy", [1, 2])
def test_a_worker_cut_off_from_the_map_output_of_others_delays_jobs_by_seconds(
    cluster: Cluster, database: Data, events: Events, healthy: int, changes: dict[str, bool]
) -> None:
    cluster.start_router()
    cluster.start_worker(**changes)
    cluster.ready(1)
    for _ in range(healthy):
        cluster.start_worker()
    cluster.ready(1 + healthy)
    expected = collections.Counter(f"{event['type']}{'.' * 4_000}{event['_id'] % 100}" for event in events)

    def check() -> None:
        assert values(database) == expected

    def make() -> JobSpec:
        sources = (Source(("event.1", "event.2"), T + "wide"),)
        return job(database, sources=sources, outputs={"": Output("zagg.x", "merge")}, map_job_size=500)

    jobs_within(cluster, make, check, 60.0)
