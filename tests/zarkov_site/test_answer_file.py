"""Large answers: where they are kept, and what becomes of them where there is no room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponse

from zarkov_site import answer_file
from zarkov_site.answer_file import SLICE_BYTES, FiledAnswers
from zarkov_site.slow_client import SlowClients

CONTENT = bytes(range(256)) * (SLICE_BYTES // 128)


class Unsignalled(HttpResponse):
    """An answer whose end Django is not told: it would look after its database."""

    def close(self) -> None:
        self.closed = True


class Answered:
    """The answer of a site that answers `CONTENT`, to a request of one method."""

    def __init__(self, clients: SlowClients, method: str = "GET") -> None:
        self.started: list[tuple[Any, ...]] = []

        def site(environ: Any, start_response: Any) -> HttpResponse:
            start_response("200 OK", [("Content-Length", str(len(CONTENT)))])
            return Unsignalled(CONTENT)

        answer: Any = FiledAnswers(site, clients)({"REQUEST_METHOD": method}, lambda *each: self.started.append(each))
        self.pieces = list(answer)
        if hasattr(answer, "close"):
            answer.close()

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each new file be one for which the kernel has no space (full(4))."""
    monkeypatch.setattr(answer_file, "TemporaryFile", lambda **_: Path("/dev/full").open("w+b"))  # noqa: SIM115


def test_a_large_answer_is_sent_in_slices() -> None:
    answered = Answered(SlowClients())
    assert (answered.body, max(map(len, answered.pieces))) == (CONTENT, SLICE_BYTES)
    assert [status for status, *_ in answered.started] == ["200 OK"]


def test_what_only_read_gets_503_where_files_of_others_leave_no_room() -> None:
    clients = SlowClients(most_file_bytes=10)
    clients.client(None).grow(10)  # a body that waits for its turn: it cannot be ended
    answered = Answered(clients)
    ((status, headers, *_),) = answered.started
    assert (status, dict(headers)["Retry-After"]) == ("503 Service Unavailable", "2")
    assert b'"unavailable"' in answered.body
    assert clients.file_bytes == 10


def test_an_answer_that_says_what_was_done_stays_in_memory_then() -> None:
    clients = SlowClients(most_file_bytes=10)
    clients.client(None).grow(10)
    answered = Answered(clients, "POST")
    assert (answered.body, max(map(len, answered.pieces))) == (CONTENT, SLICE_BYTES)
    assert clients._memory_bytes == 0


@pytest.mark.usefixtures("full_disk")
def test_an_answer_stays_in_memory_where_the_disk_is_full() -> None:
    clients = SlowClients()
    answered = Answered(clients)
    assert (answered.body, max(map(len, answered.pieces))) == (CONTENT, SLICE_BYTES)
    assert [status for status, *_ in answered.started] == ["200 OK"]
    assert (clients.file_bytes, clients._memory_bytes) == (0, 0)
