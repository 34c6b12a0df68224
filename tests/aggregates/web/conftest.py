"""What the tests of the web share: aggregates to read, clients with rights, and a real server where one is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from pymongo.database import Database

from aggregates.web import mongo
from aggregates.web.api import authentication
from aggregates.web.auth import stream_access
from aggregates.web.auth.tokens import make_token
from aggregates.web.live import process_hub
from ingest.http import receiver
from tests.support.web.configuration import configure
from tests.support.web.server import Server, write_aggregate


@pytest.fixture
def aggregate(database: Database[dict[str, Any]]) -> Callable[..., None]:
    """Make `zagg.<name>` in the test's own database."""
    return lambda name, values, through=7: write_aggregate(database, name, values, through)


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """No rates, tokens or live channels of the test before."""
    cache.clear()
    authentication.forget()
    stream_access.forget()
    yield
    process_hub.stop()
    mongo.close()
    receiver.close()


@pytest.fixture
def open_site(site: Any) -> Any:
    """The site with `anonymous_read`."""
    configure(site, anonymous_read=True)
    return site


@pytest.fixture
def closed_site(site: Any) -> Any:
    """The site without `anonymous_read`, as it comes."""
    configure(site, anonymous_read=False)
    return site


@pytest.fixture
def token_client(site: Any) -> Callable[..., Client]:
    """Clients with a token: `token_client("read", collections=["shop.*"])`."""

    def make(*scopes: str, **limits: Any) -> Client:
        _, text = make_token(f"test-{'-'.join(scopes)}", scopes, **limits)
        return Client(headers={"authorization": f"Token {text}"})

    return make


@pytest.fixture(scope="session")
def server(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real gunicorn and a real ingester on this process's mongod, with a database and home folder of their own."""
    with Server(mongo_uri, tmp_path_factory.mktemp("server")) as running:
        yield running
