"""Fixtures for web tests: aggregates to read, clients with rights, and a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from pymongo.database import Database

from aggregates.web import mongo
from aggregates.web.auth import stream_access, token_check
from aggregates.web.auth.token_creation import make_token
from aggregates.web.live import process_hub
from ingest.http import receiver
from tests.support.web.configuration import configure
from tests.support.web.server import Server, write_aggregate


@pytest.fixture
def aggregate(database: Database[dict[str, Any]]) -> Callable[..., None]:
    """Return a function that writes `zagg.<name>` into the test's database."""
    return lambda name, values, through=7, **more: write_aggregate(database, name, values, through, **more)


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """Drop rates, tokens and live channels of the previous test."""
    cache.clear()
    token_check.clear_cache()
    stream_access.clear_cache()
    yield
    process_hub.stop()
    mongo.close()
    receiver.close()


@pytest.fixture
def open_site(site: Any) -> Any:
    """Return the site with `anonymous_read`."""
    configure(site, anonymous_read=True)
    return site


@pytest.fixture
def closed_site(site: Any) -> Any:
    """Return the site without `anonymous_read`, which is the default."""
    configure(site, anonymous_read=False)
    return site


@pytest.fixture
def token_client(site: Any) -> Callable[..., Client]:
    """Return a function that makes clients with a token: `token_client("read", collections=["shop.*"])`."""

    def make(*scopes: str, **limits: Any) -> Client:
        _, text = make_token(f"test-{'-'.join(scopes)}", scopes, **limits)
        return Client(headers={"authorization": f"Token {text}"})

    return make


@pytest.fixture(scope="session")
def server(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a real gunicorn and ingester with their own database and home folder on this process's mongod."""
    with Server(mongo_uri, tmp_path_factory.mktemp("server")) as running:
        yield running
