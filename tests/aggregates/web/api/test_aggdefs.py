"""Definitions, runs, tasks and jobs by REST."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from aggregates.definition.definition import MOST_INPUTS, MOST_JSON_CHARS
from aggregates.models import AggDef, Run
from aggregates.services import define, set_task_enabled
from aggregates.web.api import aggdefs

pytestmark = pytest.mark.django_db
TASK = "tests.support.aggregates.tasks.CountByDay"


@pytest.fixture
def client(site: Any, token_client: Callable[..., Client]) -> Client:
    """Return a client with a token that may do everything here."""
    return token_client("operate")


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(f"/api/v1/{path}", body, content_type="application/json")


def test_a_definition_is_created_read_changed_and_deleted(client: Client) -> None:
    made = post(client, "aggdefs/", {"name": "mine", "task_name": TASK, "filter": {"type": "x"}, "realtime": True})
    assert made.status_code == 201, made.content
    assert made.json()["inputs"] == ["event"]
    assert made.json()["state"] == "new"
    assert client.get("/api/v1/aggdefs/mine/").json() == made.json()
    assert [item["name"] for item in client.get("/api/v1/aggdefs/").json()["aggdefs"]] == ["mine"]
    changed = client.patch("/api/v1/aggdefs/mine/", {"description": "x"}, content_type="application/json")
    assert (changed.status_code, changed.json()["description"]) == (200, "x")
    assert changed.json()["filter"] == {"type": "x"}
    assert client.delete("/api/v1/aggdefs/mine/").status_code == 204
    assert client.get("/api/v1/aggdefs/mine/").status_code == 404
    assert not AggDef.objects.exists()


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "name"),
        ({"name": "x"}, 400, "task_name"),
        ({"name": "no spaces", "task_name": TASK}, 400, "name"),
        ({"name": "x", "task_name": TASK, "inputs": []}, 400, "inputs"),
        ({"name": "x", "task_name": TASK, "inputs": ["a", "event"]}, 400, "inputs"),
        ({"name": "x", "task_name": TASK, "inputs": ["a.b"] * (MOST_INPUTS + 1)}, 400, "no more than 1000"),
        (
            {"name": "x", "task_name": TASK, "filter": {"a": {"$in": [1] * 100_000}}},
            400,
            "filter has 300016 characters",
        ),
        ({"name": "x", "task_name": TASK, "params": {"a": "x" * MOST_JSON_CHARS}}, 400, "params has 262153 characters"),
        (
            {"name": "x", "task_name": TASK, "description": "x" * 10_001},
            400,
            "10001 characters: at most 10000 are allowed",
        ),
        ({"name": "x", "task_name": TASK, "filter": {"$where": "1"}}, 400, "filter"),
        ({"name": "x", "task_name": TASK, "filter": 3}, 400, "filter"),
        ({"name": "x", "task_name": TASK, "output": "event"}, 201, ""),
        ({"name": "x", "task_name": TASK, "on_error": "shrug"}, 400, "on_error"),
        ({"name": "x", "task_name": TASK, "interval_s": 0}, 400, "interval_s"),
        ({"name": "x", "task_name": TASK, "interval_s": "1_000"}, 400, "interval_s"),
        ({"name": "x", "task_name": TASK, "settle_s": "\u0661\u0660"}, 400, "settle_s"),
        ({"name": "x", "task_name": TASK, "settle_s": True}, 400, "settle_s"),
        ({"name": "x", "task_name": TASK, "interval_s": True}, 400, "interval_s"),
        ({"name": "x", "task_name": TASK, "interval_s": 5, "crontab": "* * * * *"}, 400, "crontab"),
        ({"name": "x", "task_name": TASK, "realtime": "perhaps"}, 400, "realtime"),
        ([], 400, ""),
        ("x", 400, ""),
    ],
)
def test_an_invalid_definition_is_refused_with_the_field(client: Client, body: Any, status: int, message: str) -> None:
    answer = post(client, "aggdefs/", body)
    assert answer.status_code == status, answer.content
    if status == 400:
        assert message in answer.json()["error"]["message"]


def test_a_name_that_stands_twice_in_a_body_is_refused(client: Client) -> None:
    define(name="mine", task_name=TASK, filter={"type": "a"})
    twice = '{"type": "a", "type": "b"}'
    bodies = [
        ("POST", "aggdefs/", f'{{"name": "other", "task_name": "{TASK}", "filter": {twice}}}', "type"),
        ("POST", "aggdefs/", f'{{"name": "other", "task_name": "{TASK}", "name": "another"}}', "name"),
        ("PATCH", "aggdefs/mine/", f'{{"filter": {twice}}}', "type"),
        ("POST", "aggdefs/mine/run/", '{"mode": "full", "mode": "auto"}', "mode"),
        ("PUT", "aggdefs/mine/", f'{{"task_name": "{TASK}", "filter": {twice}}}', "type"),
    ]
    for method, path, body, name in bodies:
        answer = client.generic(method, f"/api/v1/{path}", body, content_type="application/json")
        assert (answer.status_code, f"more than one field '{name}'" in answer.content.decode()) == (400, True), body
    assert [(each.name, each.filter) for each in AggDef.objects.all()] == [("mine", {"type": "a"})]
    assert not Run.objects.exists()


def test_an_existing_name_is_409_and_a_name_cannot_be_changed(client: Client) -> None:
    post(client, "aggdefs/", {"name": "mine", "task_name": TASK})
    assert post(client, "aggdefs/", {"name": "mine", "task_name": TASK}).status_code == 409
    renamed = client.patch("/api/v1/aggdefs/mine/", {"name": "other"}, content_type="application/json")
    assert renamed.status_code == 400
    assert "name cannot be changed" in renamed.json()["error"]["message"]


def test_a_requested_run_is_planned_and_can_be_cancelled_once(client: Client) -> None:
    define(name="mine", task_name=TASK)
    started = post(client, "aggdefs/mine/run/", {"mode": "full"})
    assert started.status_code == 202
    uid = started.json()["run"]
    run = client.get(f"/api/v1/runs/{uid}/").json()
    assert (run["aggdef"], run["mode"], run["state"]) == ("mine", "full", "planned")
    cancelled = client.post(f"/api/v1/runs/{uid}/cancel/")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    again = client.post(f"/api/v1/runs/{uid}/cancel/")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "bad_run_state")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("aggdefs/nothing/run/", {}, 404, "unknown_aggregate"),
        ("aggdefs/mine/run/", {"mode": "sideways"}, 400, "invalid"),
        ("runs/nothing/cancel/", {}, 404, "not_found"),
    ],
)
def test_requests_for_impossible_runs_are_refused(client: Client, path: str, body: Any, status: int, code: str) -> None:
    define(name="mine", task_name=TASK)
    answer = post(client, path, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_runs_are_paged_newest_first_and_filtered(client: Client) -> None:
    mine, other = define(name="mine", task_name=TASK), define(name="other", task_name=TASK)
    for number in range(5):
        Run.objects.create(uid=f"m{number}", aggdef=mine, mode="full", origin="api", state="complete")
    Run.objects.create(uid="o", aggdef=other, mode="full", origin="api", state="error", traceback="boom")
    first = client.get("/api/v1/runs/", {"aggdef": "mine", "limit": "3"}).json()
    assert [run["run"] for run in first["runs"]] == ["m4", "m3", "m2"]
    Run.objects.create(uid="new", aggdef=mine, mode="full", origin="api", state="planned")
    second = client.get("/api/v1/runs/", {"aggdef": "mine", "limit": "3", "cursor": first["next"]}).json()
    assert [run["run"] for run in second["runs"]] == ["m1", "m0"]
    assert second["next"] is None
    (failed,) = client.get("/api/v1/runs/", {"state": "error"}).json()["runs"]
    assert failed["traceback"] == "boom"
    assert client.get("/api/v1/runs/", {"cursor": "zzz"}).status_code == 400


def test_tasks_are_listed_with_their_state_and_users(client: Client) -> None:
    define(name="mine", task_name=TASK)
    set_task_enabled(TASK, False, "broken")
    tasks = {task["task_name"]: task for task in client.get("/api/v1/tasks/").json()["tasks"]}
    assert tasks[TASK]["used_by"] == ["mine"]
    assert tasks[TASK]["enabled"] is False


def test_jobs_are_read_from_their_records(client: Client, database: Any) -> None:
    database["zmr.job"].insert_many(
        {
            "_id": f"j{i}",
            "state": "error" if i else "map",
            "created": datetime(2024, 1, 1 + i, tzinfo=UTC),
            "kind": "mapreduce",
            "spec": {},
        }
        for i in range(3)
    )
    assert [job["job_id"] for job in client.get("/api/v1/jobs/").json()["jobs"]] == ["j2", "j1", "j0"]
    assert [job["job_id"] for job in client.get("/api/v1/jobs/", {"state": "map"}).json()["jobs"]] == ["j0"]


def test_a_list_of_large_definitions_is_encoded_one_by_one_and_has_a_largest_size(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        define(name=name, task_name=TASK, params={"a": "x" * 200_000})
    sizes = []

    def compute(size_bytes: int, function: Any, *args: Any) -> Any:
        sizes.append(size_bytes)
        return function(*args)

    monkeypatch.setattr(aggdefs, "compute", compute)
    answer = client.get("/api/v1/aggdefs/")
    assert [item["name"] for item in answer.json()["aggdefs"]] == ["a", "b", "c"]
    one = client.get("/api/v1/aggdefs/b/").json()
    assert answer.json()["aggdefs"][1] == one
    assert len(sizes) == 4 and min(sizes) > 200_000 and max(sizes[:3]) < 202_000
    monkeypatch.setattr(aggdefs, "MAX_BYTES", 500_000)
    refused = client.get("/api/v1/aggdefs/")
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")
    assert "more than 500000 bytes: ask for one definition at a time" in refused.json()["error"]["message"]


def test_a_body_that_is_no_form_is_not_called_one(client: Client) -> None:
    answer = post(client, "aggdefs/", {"name": "x", "task_name": TASK, "description": "x" * 2_700_000})
    assert answer.status_code == 413
    assert answer.json()["error"]["message"] == "the body is too large: at most 2621440 bytes"
