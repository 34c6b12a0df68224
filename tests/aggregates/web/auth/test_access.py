"""Access control: every role and token at every endpoint."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import get_resolver
from django.urls.resolvers import URLPattern, URLResolver
from django.utils import timezone

from aggregates.models import AccessToken, AggDef, Chart, Dashboard, Run
from aggregates.services import define
from aggregates.web.api import throttling
from aggregates.web.auth import token_check
from tests.support.web.configuration import configure

pytestmark = pytest.mark.django_db(transaction=True)  # streams close their connection
ROLES = (
    "anonymous",
    "login",
    "viewer",
    "operator",
    "editor",
    "admin",
    "ingest",
    "read",
    "operate",
    "limited",
    "limited-operate",
)
READERS = {"login", "viewer", "operator", "editor", "admin", "read", "operate"}
OPERATORS = {"operator", "editor", "admin", "operate"}
EDITORS = {"editor", "admin", "operate"}
INGESTERS = {"editor", "admin", "ingest"}
LOGINS = {"login", "viewer", "operator", "editor", "admin"}

# (method, path, body, allowed roles). Other tests check the answers of the views.
MATRIX: list[tuple[str, str, Any, set[str]]] = [
    ("get", "/q?n={%22c%22:%22a%22}", None, READERS | {"limited"}),
    ("get", "/q?n={%22c%22:%22secret%22}", None, READERS),
    ("get", "/qs?q-0.n=x&q-0.c=a", None, READERS | {"limited"}),
    ("get", "/qr?q-0.n=x&q-0.c=a", None, READERS | {"limited"}),
    ("get", "/q", None, READERS | {"limited"}),
    ("get", "/collections", None, READERS | {"limited"}),
    ("get", "/metrics", None, READERS),
    ("get", "/healthz", None, set(ROLES)),
    ("get", "/readyz", None, set(ROLES)),
    ("get", "/api/v1/collections/", None, READERS | {"limited"}),
    ("get", "/api/v1/series/a/", None, READERS | {"limited"}),
    ("get", "/api/v1/series/secret/", None, READERS),
    ("get", "/api/v1/ranked/a/", None, READERS | {"limited"}),
    ("get", "/api/v1/export/a.csv", None, READERS | {"limited"}),
    ("get", "/api/v1/export/secret.jsonl", None, READERS),
    ("get", "/api/v1/live/a/", None, READERS | {"limited"}),
    ("get", "/api/v1/events/", None, READERS),
    ("post", "/api/v1/events/", {"type": "x"}, INGESTERS),
    ("get", "/api/v1/aggdefs/", None, READERS),
    ("post", "/api/v1/aggdefs/", {"name": "new", "task_name": "tests.support.aggregates.tasks.CountByDay"}, EDITORS),
    ("get", "/api/v1/aggdefs/mine/", None, READERS),
    ("put", "/api/v1/aggdefs/mine/", {"name": "mine", "task_name": "x.Y"}, EDITORS),
    ("patch", "/api/v1/aggdefs/mine/", {"description": "x"}, EDITORS),
    ("delete", "/api/v1/aggdefs/mine/", None, EDITORS),
    ("post", "/api/v1/aggdefs/mine/run/", {"mode": "full"}, OPERATORS),
    ("get", "/api/v1/runs/", None, READERS),
    ("get", "/api/v1/runs/some-run/", None, READERS),
    ("post", "/api/v1/runs/some-run/cancel/", None, OPERATORS),
    ("get", "/api/v1/tasks/", None, READERS),
    ("get", "/api/v1/jobs/", None, READERS),
    ("get", "/api/v1/jobs/some-job/", None, READERS),
    ("post", "/api/v1/jobs/some-job/cancel/", None, OPERATORS),
    ("get", "/api/v1/quarantine/", None, READERS),
    ("get", "/api/v1/quarantine/counts/", None, READERS),
    ("get", "/api/v1/quarantine/j.1.1/", None, READERS),
    ("get", "/api/v1/quarantine/j.1.1/raw/", None, READERS),
    ("delete", "/api/v1/quarantine/j.1.1/", None, OPERATORS),
    ("post", "/api/v1/quarantine/replay/", {}, OPERATORS),
    ("get", "/admin/ingest/quarantineentry/", None, {"admin"}),
    ("get", "/api/v1/", None, READERS | {"limited"}),
    ("get", "/api/v1/schema/", None, READERS | {"limited"}),
    ("get", "/", None, READERS),
    ("get", "/aggregates/", None, READERS),
    ("get", "/aggregates/a/", None, READERS),
    ("post", "/aggregates/a/", {"title": ""}, EDITORS),
    ("get", "/charts/", None, READERS),
    ("get", "/charts/c/", None, READERS),
    ("post", "/charts/c/", {"name": "x"}, {"editor", "admin", "operate"}),
    ("get", "/dashboards/", None, READERS),
    ("get", "/dashboards/d/", None, READERS),
    ("post", "/dashboards/d/", {"name": "x"}, {"editor", "admin", "operate"}),
    ("get", "/live/charts/?chart=c", None, READERS | {"limited"}),
    ("get", "/live/pulse/", None, READERS),
    ("get", "/jobs/", None, READERS),
    ("get", "/live/jobs/", None, READERS),
    ("get", "/embed/nonsense/", None, set()),
    ("get", "/embed/nonsense/live/", None, set()),
    ("get", "/admin/aggregates/chart/", None, {"admin"}),
    ("get", "/admin/aggregates/accesstoken/", None, {"admin"}),
    ("get", "/login/", None, set(ROLES)),
    ("get", "/favicon.ico", None, set(ROLES)),
    ("post", "/logout/", None, set(ROLES)),
]


@pytest.fixture
def content(closed_site: Any, aggregate: Callable[..., None]) -> None:
    """Create something for every address."""
    for name in ("a", "secret"):
        aggregate(name, {"x/2024-01-01": 1})
    mine = define(name="mine", task_name="tests.support.aggregates.tasks.CountByDay")
    Run.objects.create(uid="some-run", aggdef=mine, mode="full", origin="api", state="complete")
    Chart.objects.create(slug="c", title="C", aggregate="a")
    Dashboard.objects.create(slug="d", title="D")


@pytest.fixture
def clients(content: None, token_client: Callable[..., Client]) -> Callable[[str], Client]:
    """Return a function that makes a client for a role."""

    def make(role: str) -> Client:
        if role in LOGINS:
            user = get_user_model().objects.create_user(f"user-{role}", password="x", is_superuser=role == "admin")
            user.is_staff = role == "admin"
            user.save()
            if role in {"viewer", "operator", "editor"}:
                user.groups.add(Group.objects.get(name=role))
            client = Client()
            client.force_login(user)
            return client
        if role == "anonymous":
            return Client()
        if role == "limited-operate":  # such a token could be made in earlier versions
            client = token_client("operate")
            AccessToken.objects.update(collections="a")
            return client
        return token_client("read", collections=["a"]) if role == "limited" else token_client(role)

    return make


def is_allowed(answer: Any) -> bool:
    """Return True if the answer is neither a refusal nor a redirect to the login."""
    if answer.status_code in {401, 403}:
        return False
    return not (answer.status_code == 302 and "/login" in answer["Location"])


@pytest.mark.parametrize("role", ROLES)
def test_each_role_has_exactly_its_access(clients: Callable[[str], Client], role: str) -> None:
    client = clients(role)
    wrong = []
    counts_as = "limited" if role == "limited-operate" else role
    for method, path, body, allowed in MATRIX:
        options = {"data": body, "content_type": "application/json"} if body is not None else {}
        answer = getattr(client, method)(path, **options)
        if is_allowed(answer) != (counts_as in allowed) and path != "/logout/":
            wrong.append((method, path, answer.status_code))
        if path.startswith("/api/") and answer.status_code in {401, 403}:
            assert set(answer.json()) == {"error"}
            assert set(answer.json()["error"]) == {"code", "message", "details"}
        if path == "/api/v1/aggdefs/mine/" and method == "delete" and not AggDef.objects.filter(name="mine").exists():
            define(name="mine", task_name="tests.support.aggregates.tasks.CountByDay")
        if hasattr(answer, "close"):
            answer.close()
    assert wrong == []


def test_the_matrix_has_every_endpoint() -> None:
    def patterns(resolver: Any, before: str = "") -> list[str]:
        found = []
        for entry in resolver.url_patterns:
            here = before + str(entry.pattern).removeprefix("^")
            if isinstance(entry, URLResolver) and entry.app_name != "admin":
                found += patterns(entry, here)
            elif isinstance(entry, URLPattern):
                found.append(here)
        return found

    resolver = get_resolver()
    known = set()
    for _, path, _, _ in MATRIX:
        known.add(resolver.resolve(path.split("?")[0]).route)
    assert {route for route in patterns(resolver) if not route.startswith("admin/")} <= known


def test_anonymous_read_allows_only_reading(content: None, closed_site: Any) -> None:
    configure(closed_site, anonymous_read=True)
    client = Client()
    for method, path, body, allowed in MATRIX:
        options = {"data": body, "content_type": "application/json"} if body is not None else {}
        answer = getattr(client, method)(path, **options)
        reads = "login" in allowed and method == "get"
        assert is_allowed(answer) == (reads or path in {"/healthz", "/readyz", "/login/", "/favicon.ico"}) or (
            path == "/logout/"
        ), (method, path, answer.status_code)
        answer.close()


def test_anonymous_read_does_not_widen_a_token(
    content: None, closed_site: Any, token_client: Callable[..., Client]
) -> None:
    configure(closed_site, anonymous_read=True)
    assert token_client("ingest").get("/api/v1/series/a/").status_code == 403
    assert token_client("read", collections=["a"]).get("/api/v1/series/secret/").status_code == 403


def test_changes_need_a_csrf_token_with_a_login_and_none_with_a_token(
    content: None, token_client: Callable[..., Client]
) -> None:
    admin = get_user_model().objects.create_superuser("root", "", "x")
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin)
    body = {"data": {"description": "x"}, "content_type": "application/json"}
    refused = strict.patch("/api/v1/aggdefs/mine/", **body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    assert strict.post("/charts/c/", {"name": "x"}).status_code == 403
    token = strict.get("/charts/c/").context["csrf_token"]
    in_form = {"csrfmiddlewaretoken": str(token)}
    assert strict.post("/api/v1/events/", in_form).status_code == 403
    refused = strict.post("/api/v1/events/", in_form, headers={"x-csrftoken": str(token)})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")  # there is no ingester
    with_token = token_client("operate")
    with_token.handler.enforce_csrf_checks = True
    assert with_token.patch("/api/v1/aggdefs/mine/", **body).status_code == 200


@pytest.mark.parametrize(
    "header", ["Token", "Token a b", "Token \xff", "Bearer x", "Token " + "a" * 5000, "Basic eDp5"]
)
def test_invalid_authorization_headers_are_401(content: None, header: str) -> None:
    assert Client().get("/api/v1/series/a/", headers={"authorization": header}).status_code == 401
    assert Client().get("/collections", headers={"authorization": header}).status_code == 401


def test_expired_tokens_and_tokens_of_disabled_users_are_refused(
    content: None, token_client: Callable[..., Client]
) -> None:
    client = token_client("read")
    assert client.get("/api/v1/series/a/").status_code == 200
    AccessToken.objects.update(expiry="2020-01-01T00:00:00Z")
    assert client.get("/api/v1/series/a/").status_code == 401
    other = token_client("read")
    get_user_model().objects.update(is_active=False)
    assert other.get("/api/v1/series/a/").status_code == 401


def test_the_command_prints_a_working_token_and_stores_only_its_hash(content: None) -> None:
    output = io.StringIO()
    call_command("token", "shop", scope="ingest,read", collections="a,shop.*", days=3, stdout=output)
    text = output.getvalue().strip()
    assert Client(headers={"authorization": f"Token {text}"}).get("/api/v1/series/a/").status_code == 200
    token = AccessToken.objects.get()
    assert (token.name, token.scope_list(), token.collection_list()) == ("shop", ["ingest", "read"], ["a", "shop.*"])
    assert token.expiry is not None
    assert text not in {str(value) for value in vars(token).values()}
    assert not token.user.has_usable_password()


@pytest.mark.parametrize("scope", ["", "write", "read,write"])
def test_the_command_refuses_unknown_scopes(content: None, scope: str) -> None:
    with pytest.raises(CommandError, match="must be some of ingest, read, operate"):
        call_command("token", "shop", scope=scope)


@pytest.mark.parametrize("days", [0, -1, 36_501, 999_999_999])
def test_the_command_refuses_impossible_lifetimes(content: None, days: int) -> None:
    with pytest.raises(CommandError, match="is not allowed: use 1 to 36500"):
        call_command("token", "shop", days=days)
    assert not AccessToken.objects.exists()


def test_the_right_to_operate_cannot_be_limited_to_some_aggregates(content: None) -> None:
    with pytest.raises(CommandError, match="can only read and ingest"):
        call_command("token", "shop", scope="read,operate", collections="a")
    with pytest.raises(ValidationError, match="can only read and ingest"):
        AccessToken(name="x", scopes="operate", collections="a").clean()


def test_the_overview_links_to_quarantine_for_those_who_may_see_it(
    content: None, clients: Callable[[str], Client]
) -> None:
    link = b'href="/admin/ingest/quarantineentry/"'
    assert link in clients("admin").get("/").content
    viewer = clients("viewer")
    assert link not in viewer.get("/").content
    user = get_user_model().objects.get(username="user-viewer")
    user.is_staff = True
    user.save()
    assert link in viewer.get("/").content
    assert viewer.get("/admin/ingest/quarantineentry/").status_code == 200
    assert link not in clients("read").get("/").content


def test_pages_answer_head_requests(open_site: Any, content: None) -> None:
    configure(open_site, anonymous_read=True)
    for path in ("/", "/aggregates/", "/aggregates/a/", "/charts/", "/charts/c/", "/dashboards/d/", "/jobs/"):
        assert Client().head(path).status_code == 200, path


def test_too_many_requests_are_429_with_retry_after(
    content: None, token_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1_000_000_020.0]
    monkeypatch.setattr(throttling, "time", SimpleNamespace(time=lambda: clock[0]))
    monkeypatch.setattr(throttling.ScopeThrottle, "THROTTLE_RATES", {"api": "3/min", "operate": "1/min"})
    client = token_client("read")
    assert [client.get("/api/v1/series/a/").status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = client.get("/api/v1/series/a/")
    assert refused.json()["error"]["code"] == "throttled"
    assert 0 < int(refused["Retry-After"]) <= 61
    assert token_client("operate").get("/api/v1/series/a/").status_code == 200  # other clients have their own count
    clock[0] += int(refused["Retry-After"])
    assert client.get("/api/v1/series/a/").status_code == 200


def test_changes_have_a_separate_lower_rate(
    content: None, token_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttling, "time", SimpleNamespace(time=lambda: 1_000_000_020.0))
    monkeypatch.setattr(throttling.ScopeThrottle, "THROTTLE_RATES", {"api": "3/min", "operate": "1/min"})
    client = token_client("operate")
    change = {"data": {"description": "x"}, "content_type": "application/json"}
    assert [client.patch("/api/v1/aggdefs/mine/", **change).status_code for _ in range(2)] == [200, 429]
    assert [client.get("/api/v1/series/a/").status_code for _ in range(4)] == [200, 200, 200, 429]


def test_a_token_that_sends_events_is_cached_for_two_seconds(
    content: None, token_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    clock = [100.0]
    monkeypatch.setattr(token_check, "time", SimpleNamespace(monotonic=lambda: clock[0], time=time.time))
    client = token_client("ingest")

    def post() -> int:
        return int(client.post("/api/v1/events/", data=b" ", content_type="application/json").status_code)

    assert post() == 400  # allowed, although there is no event
    with django_assert_num_queries(0):
        assert [post(), post()] == [400, 400]
    AccessToken.objects.all().delete()
    assert client.get("/api/v1/events/").status_code == 401  # reading asks the database each time
    clock[0] += token_check.CACHED_S + 0.01
    assert post() == 401


def test_a_token_is_not_cached_beyond_its_expiry(
    content: None, token_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_check, "CACHED_S", 10_000)
    client = token_client("ingest")
    AccessToken.objects.update(expiry=timezone.now() + timedelta(seconds=1_000))
    assert client.post("/api/v1/events/", data=b" ", content_type="application/json").status_code == 400
    ((until, _),) = token_check._cached.values()
    assert until <= time.monotonic() + 1_000


def test_only_listed_origins_may_use_the_api(content: None, settings: Any, token_client: Callable[..., Client]) -> None:
    settings.CORS_ORIGINS = ["https://wiki.example.org"]
    client = token_client("read")
    asked = {"origin": "https://wiki.example.org", "access-control-request-method": "GET"}
    preflight = Client().options("/api/v1/series/a/", headers=asked)
    assert preflight.status_code == 204
    assert preflight["Access-Control-Allow-Origin"] == "https://wiki.example.org"
    assert "Authorization" in preflight["Access-Control-Allow-Headers"]
    answer = client.get("/api/v1/series/a/", headers={"origin": "https://wiki.example.org"})
    assert answer["Access-Control-Allow-Origin"] == "https://wiki.example.org"
    assert "Access-Control-Allow-Credentials" not in answer
    assert "Origin" in answer["Vary"]
    for origin in ("https://evil.example", "null", "https://wiki.example.org.evil.example"):
        assert "Access-Control-Allow-Origin" not in client.get("/api/v1/series/a/", headers={"origin": origin})
    assert "Access-Control-Allow-Origin" not in client.get("/admin/", headers={"origin": "https://wiki.example.org"})


def test_every_answer_has_a_strict_content_security_policy(content: None, clients: Callable[[str], Client]) -> None:
    client = clients("admin")
    for path in ("/", "/charts/c/", "/api/v1/collections/", "/q?n={}", "/admin/", "/nothing-here/"):
        policy = client.get(path)["Content-Security-Policy"]
        assert "script-src 'self';" in policy and "frame-ancestors 'none'" in policy, path
        assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in client.get("/charts/c/")["Content-Security-Policy"]


def test_unknown_addresses_answer_json_to_programs_and_a_page_to_people(open_site: Any) -> None:
    answer = Client().get("/api/v1/nothing/")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    shown = Client().get("/nothing/", headers={"accept": "text/html"})
    assert shown.status_code == 404 and b"<h1>Not found</h1>" in shown.content
