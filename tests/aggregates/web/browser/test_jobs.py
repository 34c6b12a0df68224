"""Jobs over REST and on their page, with a real router and no workers, so that jobs stay until they are cancelled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.waiting import eventually
from tests.support.web.server import PASSWORD, Server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def charts(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server whose engine is a router. The browser fixtures expect this name."""
    environ = {"ZARKOV_ZMR__ENGINE": "zmq", "ZARKOV_TASK_MODULES": "tests.support.aggregates.tasks"}
    with Server(mongo_uri, tmp_path_factory.mktemp("jobs"), **environ) as running:
        running.start_router()
        yield running


def submit(server: Server) -> str:
    """Submit a job that waits for a worker; return its id."""
    return server.django("""
        from aggregates.process_connections import process_connections
        print(process_connections().engine.submit_call("tests.support.aggregates.tasks:add", ["x", [1]]))
    """).strip()


def request_jobs(server: Server, path: str, **options: Any) -> tuple[int, Any]:
    status, _, body = server.request(f"api/v1/jobs/{path}", **options)
    return status, json.loads(body)


def put_record(server: Server, job_id: str, **fields: Any) -> None:
    """Write a job's record as the router does."""
    spec = {"sources": [{"map_name": "shop:Sales.map"}], "reduce_name": "shop:Sales.reduce",
            "outputs": [{"collection": "zagg.sales"}]}  # fmt: skip
    document = {"kind": "mapreduce", "created": datetime.now(UTC), "spec": spec, **fields}
    server.database["zmr.job"].replace_one({"_id": job_id}, {"_id": job_id, **document}, upsert=True)


def test_a_job_is_shown_and_cancelled_over_rest(charts: Server) -> None:
    job_id = submit(charts)
    eventually(lambda: request_jobs(charts, f"{job_id}/")[0] == 200, what="the record of the job")
    found = request_jobs(charts, "?limit=5")[1]["jobs"][0]
    assert (found["job_id"], found["ended"], found["functions"]) == (
        job_id,
        None,
        ["tests.support.aggregates.tasks:add"],
    )
    assert found["state"] in {"ready", "map"}
    assert request_jobs(charts, f"{job_id}/cancel/", method="POST", token=charts.make_token("r", "read"))[0] == 403
    status, cancelled = request_jobs(charts, f"{job_id}/cancel/", method="POST", token=charts.token)
    assert (status, cancelled["state"]) == (200, "cancelled")
    eventually(lambda: request_jobs(charts, f"{job_id}/")[1]["state"] == "cancelled", what="the record of the end")
    status, refused = request_jobs(charts, f"{job_id}/cancel/", method="POST", token=charts.token)
    assert (status, refused["error"]["code"]) == (409, "conflict")


def test_unknown_jobs_are_404_and_unknown_states_are_400(charts: Server) -> None:
    for path, options in (("none/", {}), ("none/cancel/", {"method": "POST", "token": charts.token})):
        status, answer = request_jobs(charts, path, **options)
        assert (status, answer["error"]["code"]) == (404, "not_found")
    status, answer = request_jobs(charts, "?state=sleeping")
    assert status == 400
    assert "ready" in answer["error"]["message"]


def test_without_a_router_a_job_is_shown_and_cancelling_it_is_503(charts: Server) -> None:
    charts.stop("router")
    put_record(charts, "lost", state="map")
    try:
        assert request_jobs(charts, "lost/")[1]["state"] == "map"
        status, headers, body = charts.request("api/v1/jobs/lost/cancel/", method="POST", token=charts.token)
        assert (status, json.loads(body)["error"]["code"]) == (503, "unavailable")
        assert int(headers["retry-after"]) > 0
    finally:
        charts.database["zmr.job"].delete_one({"_id": "lost"})
        charts.start_router()


def test_progress_is_live_and_a_failed_job_shows_its_traceback(charts: Server, page: Page) -> None:
    put_record(charts, "sales-1", state="map", progress={"splits": 40, "splits_done": 3, "docs_in": 12_000})
    page.goto(charts.url("jobs/"))
    row = page.locator('tr[data-job-id="sales-1"]')
    expect(row).to_contain_text("3 of 40")
    expect(row).to_contain_text("sales")
    expect(row.locator(".state")).to_have_text("map")
    put_record(charts, "sales-1", state="reduce", progress={"splits": 40, "splits_done": 40, "docs_in": 160_000})
    expect(row).to_contain_text("40 of 40")
    expect(row.locator(".state")).to_have_text("reduce")
    failed = {"code": "map_failed", "message": "the map raised KeyError: 'shop' on event 7", "details": {}}
    put_record(charts, "sales-1", state="error", ended=datetime.now(UTC), error=failed, traceback="Traceback <b>\n  x")
    expect(page.locator("tr.failure")).to_contain_text("KeyError: 'shop' on event 7")
    page.get_by_text("Traceback", exact=True).click()
    expect(page.locator("tr.failure pre")).to_have_text("Traceback <b>\n  x")
    put_record(charts, "sales-2", state="complete", ended=datetime.now(UTC))
    expect(page.locator('tr[data-job-id="sales-2"]')).to_be_visible()
    expect(page.locator("tr.failure pre")).to_be_visible()  # an update does not close an open traceback
    page.get_by_label("only running or failed jobs").check()
    expect(page.locator('tr[data-job-id="sales-2"]')).to_have_count(0)
    assert page.get_by_role("button", name="Cancel").count() == 0  # a reader may not cancel


def test_workers_that_fail_are_named_with_reason_and_next_attempt(charts: Server, page: Page) -> None:
    charts.stop("router")  # it would write its own status over this one
    now = datetime.now(UTC)
    bad = {
        "name": "two:8",
        "slots": 1,
        "busy": 0,
        "state": "quarantined",
        "failures": 6,
        "reason": "a <b>full</b> disk",
    }
    bad |= {"since": now - timedelta(minutes=5), "retry": now + timedelta(minutes=10)}
    workers = [{"name": "one:7", "slots": 1, "busy": 0}, bad]

    def write(*shown: dict[str, Any]) -> None:
        status = {"name": "r:1", "seen": datetime.now(UTC), "workers": list(shown), "totals": {}}
        charts.database["zmr.router"].update_one({"_id": "router"}, {"$set": status}, upsert=True)

    try:
        write(*workers)
        page.goto(charts.url("jobs/"))
        box = page.locator("#failing-workers")
        expect(box).to_contain_text("two:8 is quarantined: 6 failures in a row since 5 min ago, next attempt in 9 min")
        expect(box).to_contain_text("a <b>full</b> disk")
        expect(box.locator("li")).to_have_count(1)
        write(workers[0])
        expect(box).to_be_hidden()
    finally:
        charts.start_router()


def test_an_operator_cancels_a_job_on_the_page(charts: Server, open_context: Callable[..., Any]) -> None:
    job_id = submit(charts)
    page = open_context()[0].new_page()
    page.goto(charts.url("login/?next=/jobs/"))
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Log in").click()
    page.on("dialog", lambda dialog: dialog.accept())
    row = page.locator(f'tr[data-job-id="{job_id}"]')
    row.get_by_role("button", name="Cancel").click()
    expect(page.locator("#cancel-message")).to_have_text("The job is cancelled.")
    expect(row.locator(".state")).to_have_text("cancelled")
    expect(row.get_by_role("button")).to_have_count(0)
