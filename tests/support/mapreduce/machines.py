"""Run workers on several simulated machines, with a link that is cut and healed.

Run it in its own network namespace: `unshare -n python -m tests.support.mapreduce.machines FOLDER`. It prints `result
equal` at the end, and removes everything it made.
"""

from __future__ import annotations

import collections
import selectors
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from mapreduce.job.spec import JobSpec, Output, Source
from tests.support.mapreduce.cluster import Cluster
from tests.support.mapreduce.jobs import make_events
from tests.support.mongo import open_client
from tests.support.waiting import eventually
from zarkov_site.config.home import HomeFolder
from zarkov_site.processes.mongod import LocalMongod

HUB = "10.77.0.1"
T = "tests.support.mapreduce.tasks:"


def ip(*arguments: str, pid: int | None = None) -> None:
    """Run the `ip` command, in the network namespace of process `pid` if given."""
    prefix = ["nsenter", "-t", str(pid), "-n"] if pid else []
    subprocess.run([*prefix, "ip", *arguments], check=True)


class Machine:
    """A network namespace with one link to the hub."""

    def __init__(self, number: int) -> None:
        self.address = f"10.77.0.{10 + number}"
        self.link = f"machine{number}"
        self.holder = subprocess.Popen(["unshare", "-n", "sleep", "600"])
        own = Path("/proc/self/ns/net").readlink()
        space = Path(f"/proc/{self.holder.pid}/ns/net")
        eventually(lambda: space.readlink() != own, what="a namespace of its own")
        ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", str(self.holder.pid))
        ip("link", "set", self.link, "master", "hub", "up")
        ip("link", "set", "lo", "up", pid=self.holder.pid)
        ip("addr", "add", f"{self.address}/24", "dev", "eth0", pid=self.holder.pid)
        ip("link", "set", "eth0", "up", pid=self.holder.pid)

    @property
    def prefix(self) -> list[str]:
        return ["nsenter", "-t", str(self.holder.pid), "-n"]

    def cut(self) -> None:
        ip("link", "set", self.link, "down")

    def heal(self) -> None:
        ip("link", "set", self.link, "up")


def forward(port: int) -> None:
    """Let the machines reach the mongod that listens on loopback only, at the same port of the hub."""
    listener = socket.create_server((HUB, port))

    def pump(one: socket.socket, other: socket.socket) -> None:
        selector = selectors.DefaultSelector()
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        try:
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(65_536)  # type: ignore[union-attr]
                    if not data:
                        return
                    key.data.sendall(data)
        except OSError:
            return
        finally:
            one.close()
            other.close()

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=pump, args=(client, server), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def main(folder: Path) -> int:
    """Run router and mongod on the hub and a worker on each of two machines, and cut one link during a job."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "hub", "type", "bridge")
    ip("addr", "add", f"{HUB}/24", "dev", "hub")
    ip("link", "set", "hub", "up")
    mongod = LocalMongod(HomeFolder(folder / "home"))
    machines: list[Machine] = []
    cluster: Cluster | None = None
    try:
        uri = mongod.start()
        database: Any = open_client(uri)["machines"]
        forward(int(uri.rsplit(":", 1)[1].split("/")[0]))
        events = make_events(5_000)
        database["event.1"].insert_many(events)
        cluster = Cluster(
            folder / "cluster",
            uri.replace("127.0.0.1", HUB),
            "machines",
            map_job_size=100,
            req_bind=f"tcp://{HUB}:0",
            worker_bind=f"tcp://{HUB}:0",
        )
        cluster.start_router()
        for number in (1, 2):
            machine = Machine(number)
            machines.append(machine)
            cluster.start_worker(machine.prefix, worker_interface=f"tcp://{machine.address}")
        cluster.ready(2)
        check(cluster, database, events, machines)
    finally:
        if cluster is not None:
            cluster.stop()
        for machine in machines:
            machine.holder.kill()
            machine.holder.wait()
        mongod.stop()
    return 0


def splits_done(cluster: Cluster, job_id: str, count: int) -> bool:
    return bool(cluster.engine.status(job_id).progress["splits_done"] >= count)


def check(cluster: Cluster, database: Any, events: list[dict[str, Any]], machines: list[Machine]) -> None:
    """Assert that the result equals an undisturbed one, and that the worker behind the healed link works again."""
    expected = collections.Counter(f"{event['type']}{'.' * 4_000}{event['_id'] % 100}" for event in events)
    for round_number in range(2):
        spec = JobSpec(
            database="machines",
            sources=(Source(("event.1",), T + "slow_wide"),),
            outputs={"": Output("zagg.x", "replace")},
            reduce_name=T + "add",
        )
        job_id = cluster.engine.submit(spec)
        eventually(partial(splits_done, cluster, job_id, 20), what="splits are done")
        if round_number == 0:
            machines[0].cut()
            eventually(lambda: len(cluster.engine.config()["workers"]) == 1, what="the router gives the worker up")
            time.sleep(1.0)  # the job continues while the link is down
            machines[0].heal()
        status = cluster.engine.wait(job_id, 200)
        assert status.state == "complete", status
        assert {d["_id"]: d["value"] for d in database["zagg.x"].find()} == expected
        cluster.ready(2)
    print("result equal")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
