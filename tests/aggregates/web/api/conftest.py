"""Fixtures for tests of quarantine: a site, an ingester whose addresses it knows, and people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import Client
from pymongo.database import Database

from tests.support.ingest.running import ANYWHERE, RunningIngester, running_anywhere
from tests.support.web.configuration import configure


@pytest.fixture
def ready(open_site: Any, database: Database[Any]) -> Any:
    """Return the site, with a storage of static files that needs no manifest."""
    configure(open_site, ack_bind_address=ANYWHERE)
    open_site.STORAGES = {
        **open_site.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    return open_site


@pytest.fixture
def ingester(ready: Any, mongo_uri: str, database: Database[Any], tmp_path: Path) -> Iterator[RunningIngester]:
    """Yield a real ingester whose addresses the site knows."""
    running = running_anywhere(mongo_uri, database.name, tmp_path / "journal")
    ready.ZARKOV.folder.record_addresses(running.ingester.addresses)
    yield running
    running.stop()


@pytest.fixture
def operator(token_client: Callable[..., Client]) -> Client:
    return token_client("operate")


@pytest.fixture
def staff(ready: Any) -> Callable[[str], Client]:
    """Return a function that makes clients logged in as staff of a group."""

    def make(group: str) -> Client:
        user = get_user_model().objects.create_user(f"the {group}", is_staff=True)
        user.groups.add(Group.objects.get(name=group))
        client = Client()
        client.force_login(user)
        return client

    return make
