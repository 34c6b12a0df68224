"""Entries of quarantine, and requests about them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from bson.int64 import Int64
from django.test import Client
from django.urls import reverse
from pymongo.database import Database

START = datetime(2026, 1, 1, tzinfo=UTC)
LIST = reverse("admin:ingest_quarantineentry_changelist")
API = "/api/v1/quarantine/"


def entry(n: int, raw: bytes = b'{"typ": "x"}', code: str = "unknown_field", source: str = "json") -> dict[str, Any]:
    return {
        "_id": {"j": "0a-0b", "s": Int64(1 + n // 100), "i": n % 100},
        "code": code, "message": f"reason {code}", "source": source, "time": START + timedelta(seconds=n // 2),
        "bytes": len(raw), "raw": raw,
    }  # fmt: skip


def key(n: int) -> str:
    return f"0a-0b.{1 + n // 100}.{n % 100}"


def post(client: Client, body: dict[str, Any], query: str = "") -> Any:
    return client.post(f"{API}replay/{query}", body, content_type="application/json")


def page_of(answer: Any) -> str:
    assert answer.status_code == 200
    return str(answer.content.decode())


def events(database: Database[Any]) -> list[tuple[str, str]]:
    return sorted((event["type"], event["id"]) for event in database["event"].find())
