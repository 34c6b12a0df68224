"""The parts that `up` starts, and its check of addresses."""

from __future__ import annotations

import os
import socket

import pytest

from zarkov_site.config.source import load
from zarkov_site.processes import parts


def test_a_port_in_use_is_reported_with_its_process_and_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        config, _ = load({"ZARKOV_BSON_BIND_ADDRESS": address})
        with pytest.raises(parts.PortTakenError) as caught:
            parts.refuse_taken_ports(config)
    message = str(caught.value)
    assert f"bson_bind_address: {address} cannot be used" in message
    assert f"by process {os.getpid()}" in message
    assert "--set bson_bind_address=tcp://127.0.0.1:0" in message


def test_free_ports_and_port_0_are_accepted() -> None:
    keys = ("BSON_BIND_ADDRESS", "JSON_BIND_ADDRESS", "ACK_BIND_ADDRESS", "PUBLISH_BIND_ADDRESS")
    environ = {f"ZARKOV_{key}": "tcp://127.0.0.1:0" for key in (*keys, "ZMR__REQ_BIND", "ZMR__WORKER_BIND")}
    config, _ = load(environ | {"ZARKOV_WEB_PORT": "0", "ZARKOV_METRICS__PORT": "0"})
    parts.refuse_taken_ports(config)


def test_the_inline_engine_has_no_router_and_no_workers() -> None:
    names = [part.name for part in parts.list_parts(load({})[0])]
    assert names == ["ingester", "broker", "router", "worker", "backend", "web", "aggregator", "celery", "beat"]
    inline = [part.name for part in parts.list_parts(load({"ZARKOV_ZMR__ENGINE": "inline"})[0])]
    assert inline == ["ingester", "broker", "backend", "web", "aggregator", "celery", "beat"]


def test_parts_stop_before_the_parts_that_they_need() -> None:
    """Parts that measure need the broker, the broker the backend, the backend the ingester; runs need the workers."""
    orders = {part.name: part.stop_order for part in parts.list_parts(load({})[0])}
    first = {"web", "aggregator", "celery", "beat"}
    assert {name for name, order in orders.items() if order == 0} == first
    in_order = ["worker", "broker", "backend", "ingester"]
    assert sorted(in_order, key=lambda name: orders[name]) == in_order
    assert len({orders[name] for name in in_order}) == len(in_order)
    assert orders["router"] == orders["worker"]
