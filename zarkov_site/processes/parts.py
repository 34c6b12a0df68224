"""List the processes that `up` starts, with their order and addresses."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

import psutil

from zarkov_site.config.config import INGEST_SOCKETS, IS_CHECKOUT, REPOSITORY, Config
from zarkov_site.exceptions import SiteError
from zarkov_site.processes.process import END_WITH_PARENT
from zarkov_site.processes.supervisor import Part

METRIC_ADDRESSES = ("metrics.publishers", "metrics.backends")
ROUTER_ADDRESSES = ("zmr.req_bind", "zmr.worker_bind")


class PortTakenError(SiteError, code="port_taken"):
    """Another process uses an address that a part of the system needs."""


def manage(*arguments: str) -> tuple[str, ...]:
    """Return the command line of a management command in this virtual environment."""
    return (sys.executable, "-P", "-m", "zarkov_site", *arguments)


def mongod_part() -> Part:
    """Return the part for the local mongod, which runs only if `mongo_uri` is not set."""
    return Part("mongod", manage("runmongo"), stop_within_s=20)


def list_parts(config: Config) -> list[Part]:
    """Return all parts except mongod, in start order.

    `Part.stop_order` prevents losses: the parts that only use others stop first, then the router and the workers, then
    the broker, once nothing sends measurements, then the backend that stores those, and last the ingester.
    """
    celery = (sys.executable, "-m", "celery", "-A", "zarkov_site", "--skip-checks")
    alone = ("--pool=solo", "--loglevel=INFO", "--without-gossip", "--without-mingle", "--without-heartbeat")
    schedule = config.folder.run / "celerybeat"
    found = [
        Part("ingester", manage("runingest"), ready_keys=INGEST_SOCKETS, stop_within_s=90, stop_order=4),
        Part("broker", manage("runbroker"), ready_keys=METRIC_ADDRESSES, stop_order=2),
    ]
    if config.zmr.engine == "zmq":
        workers = str(config.local_workers)
        found += [
            Part("router", manage("runrouter"), ready_keys=ROUTER_ADDRESSES, runs_tasks=True, stop_order=1),
            Part("worker", manage("runworker", "--processes", workers), runs_tasks=True, stop_order=1),
        ]
    web = (sys.executable, "-m", "gunicorn", "-c", "python:zarkov_site.server", "zarkov_site.wsgi:application")
    return [
        *found,
        Part("backend", manage("runbackend", "zarkov", "--flush", "1"), needs_tables=True, stop_order=3),
        Part("web", web, ready_keys=("web",), needs_tables=True, runs_tasks=True, reload_signal=signal.SIGHUP),
        Part("aggregator", manage("runaggregator"), needs_tables=True, runs_tasks=True),
        Part("celery", (*celery, "worker", *alone), needs_tables=True, runs_tasks=True),
        Part(
            "beat",
            (*celery, "beat", "--loglevel=INFO", f"--pidfile={schedule}.pid", f"--schedule={schedule}"),
            needs_tables=True,
        ),
    ]


def child_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the child processes; it lets them import the checkout from any folder."""
    paths = filter(None, [str(REPOSITORY) if IS_CHECKOUT else "", base.get("PYTHONPATH")])
    return dict(base) | {END_WITH_PARENT: "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(paths)}


def refuse_taken_ports(config: Config) -> None:
    """Raise `PortTakenError` with each configured address in use, who uses it, and how to choose another."""
    wanted = config.sockets() | {"web_port": config.web_address}
    taken = [sentence for key, address in wanted.items() if (sentence := _taken(key, address))]
    if taken:
        raise PortTakenError("; ".join(taken))


def _taken(key: str, address: str) -> str | None:
    url = urlsplit(address)
    if url.scheme != "tcp" or not url.port:
        return None
    host = {"*": "0.0.0.0", None: "0.0.0.0"}.get(url.hostname, url.hostname)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, url.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        other = "0" if key in {"web_port", *METRIC_ADDRESSES} else "tcp://127.0.0.1:0"
        return (
            f"{key}: {address} cannot be used ({error.strerror}{_holder(url.port)}): stop what uses it, or choose "
            f"another with --set {'metrics.port' if key in METRIC_ADDRESSES else key}={other}"
        )
    return None


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                command = shlex.join(psutil.Process(connection.pid).cmdline())[:120]
                return f" by process {connection.pid}, {command}"
    except psutil.Error:
        pass
    return ""
