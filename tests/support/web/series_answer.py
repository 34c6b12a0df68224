"""Ask for series over the API."""

from __future__ import annotations

from typing import Any

from django.test import Client


def series(client: Client, name: str, **asked: str) -> Any:
    """Return the answer for an output; parameters whose names are Python's words end with `_`, as in `from_`."""
    answer = client.get(f"/api/v1/series/{name}/", {key.rstrip("_"): value for key, value in asked.items()})
    assert answer.status_code == 200, answer.content
    return answer.json()


def points(answer: Any) -> dict[str, list[Any]]:
    """Return the points of an answer by the label of their series."""
    return {item["label"]: item["data"] for item in answer["series"]}
