"""Configure gunicorn: `gunicorn -c python:zarkov_site.server zarkov_site.wsgi:application`.

gunicorn's parent process imports this module before the gevent worker patches itself, so nothing here may import
Django, pymongo or ZeroMQ. The number of workers is `WEB_CONCURRENCY`, 1 by default.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import Any

from aggregates.web.metrics import count_files
from ingest.free_memory import return_large_blocks
from zarkov_site.config.listen_address import in_url, reachable
from zarkov_site.config.source import load
from zarkov_site.processes.process import end_with_parent
from zarkov_site.request_limit import close_unread, limit_chunks

_config, _ = load()
_config.refuse_exposure()
end_with_parent()


def _bind() -> str:
    """Return the address for gunicorn, or an open descriptor: it takes IPv6 with a scope, fe80::1%eth0, for a name."""
    if "%" not in _config.web_host:
        return _config.web_address.removeprefix("tcp://")
    *_, where = socket.getaddrinfo(_config.web_host, _config.web_port, socket.AF_INET6, socket.SOCK_STREAM)[0]
    listener = socket.create_server(where, family=socket.AF_INET6, backlog=2048)
    listener.set_inheritable(True)
    return f"fd://{listener.detach()}"


def _without_traceback(record: logging.LogRecord) -> bool:
    """Leave one line for a request that Django refuses, such as a form of too many fields: anybody can send those."""
    is_refusal = record.name == "django.request" and record.levelno < logging.ERROR
    if is_refusal or record.name.startswith("django.security."):
        record.exc_info = None
    return True


bind = _bind()
worker_class = "gevent"
worker_connections = 4000  # open streams of one worker
timeout = 60
graceful_timeout = 1  # `up` gives every process 3 s
keepalive = 5
control_socket_disable = True  # it would be in the user's home directory, shared by all projects
forwarded_allow_ips = ""  # zarkov_site.proxy_headers decides whose X-Forwarded-... headers count
proc_name = "zarkov-web"
accesslog = "-" if _config.verbose else None
errorlog = "-"
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "filters": {"refusals": {"()": lambda: _without_traceback}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["refusals"]}},
    "root": {"level": "DEBUG" if _config.verbose else "INFO", "handlers": ["stderr"]},
    "loggers": {
        **{name: {"level": "WARNING"} for name in ("pymongo", "kombu", "amqp", "asyncio", "urllib3")},
        "gunicorn.error": {"level": "INFO", "handlers": ["stderr"], "propagate": False},
        "gunicorn.access": {
            "level": "INFO" if _config.verbose else "WARNING",
            "handlers": ["stderr"],
            "propagate": False,
        },
    },
}
_recorded: dict[str, str] = {}
_counts = _config.folder.run / "requests"


def _share_metrics() -> None:
    """Create an empty folder in which all workers count requests, see `aggregates.web.metrics.request_metrics`."""
    try:
        _counts.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:  # gunicorn ends without a traceback
        sys.exit(f"error: {_counts}: {error.strerror}: it must be a folder that this user can write to")
    for left in _counts.glob("*.db"):
        left.unlink(missing_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_counts)


_share_metrics()


def when_ready(server: Any) -> None:
    """Record the real address, which is known now even if the port is 0."""
    host, port = server.LISTENERS[0].sock.getsockname()[:2]
    scope = _config.web_host.partition("%")[2]
    if scope:  # it is part of an address, as RFC 6874 writes it
        host = f"{host.partition('%')[0]}%25{scope}"
    _recorded["web"] = f"http://{in_url(reachable(host))}:{port}"
    _config.folder.record_addresses(_recorded)


def on_exit(server: Any) -> None:
    """Remove the recorded address."""
    if _recorded and os.getpid() == server.pid:
        _config.folder.remove_addresses(_recorded)


def post_fork(server: Any, worker: Any) -> None:
    """Reserve the space in which this worker counts requests; without it, count in memory, for itself."""
    try:
        count_files.reserve(_counts)
    except OSError as error:
        del os.environ["PROMETHEUS_MULTIPROC_DIR"]
        server.log.warning("requests counted by one web process only folder=%s reason=%s", _counts, error.strerror)


def child_exit(server: Any, worker: Any) -> None:
    """Keep the counts of a worker that ended, in little space."""
    count_files.trim(_counts, worker.pid)


def pre_request(worker: Any, request: Any) -> None:
    """Keep a body of many chunks from holding up other requests."""
    limit_chunks(request)


def post_request(worker: Any, request: Any, environ: dict[str, Any], response: Any) -> None:
    """Read no more of a body than the application wanted, beyond what is soon read."""
    if response is not None:
        close_unread(request, response, environ["gunicorn.socket"])


def post_worker_init(worker: Any) -> None:
    """Keep freed memory small, and end the open streams once the worker must stop: they would keep it alive."""
    import gevent

    return_large_blocks()

    from aggregates.web.live import process_hub

    def watch() -> None:
        while worker.alive:
            gevent.sleep(0.1)
        process_hub.stop()

    gevent.spawn(watch)
