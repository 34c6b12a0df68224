"""The OpenAPI document has no warnings and matches the server's answers (schemathesis, over HTTP)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.management import call_command
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import one_of
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from aggregates.web.api.schema import OnceGenerator
from tests.support.web.server import Server, write_aggregate

pytestmark = pytest.mark.early

QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large, HealthCheck.large_base_example]
EXAMPLES = 40
LONG_EXAMPLES = 1_000
OPERATIONS = sorted(
    f"{method.upper()} {path}"
    for path, operations in SchemaGenerator().get_schema(public=True)["paths"].items()  # type: ignore[no-untyped-call]
    for method in operations
    if not path.startswith("/api/v1/live/")
)


@pytest.fixture(scope="module")
def server(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server that requires a token for reading."""
    with Server(mongo_uri, tmp_path_factory.mktemp("closed"), ZARKOV_ANONYMOUS_READ="false") as running:
        yield running


@pytest.fixture(scope="module")
def schema(server: Server) -> Any:
    """Return the server's own document, after filling the server with data."""
    write_aggregate(server.database, "known", {"x/2024-01-01": 1, "x/2024-01-02": {"n": 2}, "y": 3})
    server.django("""
        from aggregates.services import define
        define(name="known", task_name="aggregates.agg_tasks.CommitsByDay", enabled=False)
    """)
    headers = {"Authorization": f"Token {server.token}"}
    return schemathesis.openapi.from_url(server.url("api/v1/schema/?format=json"), headers=headers)


@pytest.fixture(scope="module")
def operations(schema: Any) -> dict[str, Any]:
    """Return the operations of the document by their labels."""
    return {operation.label: operation for operation in (result.ok() for result in schema.get_all_operations())}


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_matches_the_document(operations: dict[str, Any], server: Server, label: str) -> None:
    _fuzz(operations[label], server.token, EXAMPLES, derandomize=True)  # never red by accident


@pytest.mark.long
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_to_random_requests_matches_the_document(
    operations: dict[str, Any], server: Server, label: str
) -> None:
    _fuzz(operations[label], server.token, LONG_EXAMPLES, derandomize=False)


def test_every_operation_is_tested(operations: dict[str, Any]) -> None:
    # A stream that never ends is left to test_stream.py.
    assert operations.keys() - set(OPERATIONS) == {"GET /api/v1/live/{name}/"}
    assert len(OPERATIONS) == 26


def _fuzz(operation: Any, token: str, examples: int, *, derandomize: bool) -> None:
    """Run all of schemathesis's checks but two on requests that the document allows, and on others.

    JSON Schema cannot describe filters, zones and cursors exactly, so a request that the document allows can still be
    answered by 400; and a parameter that is empty counts as absent.
    """
    modes = [GenerationMode.POSITIVE] + [GenerationMode.NEGATIVE] * _has_input(operation)

    @given(case=one_of([operation.as_strategy(generation_mode=mode) for mode in modes]))
    @settings(
        max_examples=examples,
        derandomize=derandomize,
        deadline=None,
        suppress_health_check=QUIET,
        phases=[Phase.explicit, Phase.generate],
    )
    def check(case: Any) -> None:
        answer = case.call(headers={"Authorization": f"Token {token}"}, timeout=90)
        if answer.status_code != 414:  # of gunicorn, which no address of the document is too long for
            case.validate_response(answer, excluded_checks=[positive_data_acceptance, negative_data_rejection])

    check()


def _has_input(operation: Any) -> bool:
    """Return whether there is something that a request could have wrong, besides a name in the path."""
    return bool(operation.definition.raw.get("requestBody")) or any(
        each["in"] == "query" for each in operation.definition.raw.get("parameters", ())
    )


@pytest.mark.django_db
def test_the_document_is_made_once(open_site: Any, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnceGenerator, "_made", {})
    parsed: list[bool] = []
    parse = SchemaGenerator.parse

    def record(self: Any, request: Any, public: bool) -> Any:
        parsed.append(public)
        return parse(self, request, public)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(SchemaGenerator, "parse", record)
    answers = [client.get(f"/api/v1/schema/?format={form}") for form in ("json", "json", "yaml", "yaml")]
    assert parsed == [True]
    assert answers[0].content == answers[1].content and answers[2].content == answers[3].content
    assert answers[0].json() == SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]


def test_the_document_is_generated_without_warnings(tmp_path: Any) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yml"))
