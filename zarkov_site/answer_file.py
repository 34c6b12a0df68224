"""Keep large answers in files while clients read them: a WSGI application (PEP 3333) around the site.

The server sends to one client at its pace, and would hold the whole answer in memory until it has read it. Streams are
sent in slices, of which a client holds one.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from aggregates.web.exceptions import UnavailableError
from ingest.turn import sleeping_turn
from zarkov_site.error_answer import answer_error
from zarkov_site.slow_client import SlowClient, SlowClients, close_file

SLICE_BYTES = 2**16
EXPORT_SHARE = 10  # what an export keeps for each byte of a piece: the documents that it comes from

Environ = dict[str, Any]
Application = Callable[[Environ, Any], Iterable[bytes]]
log = logging.getLogger(__name__)


class FiledAnswers:
    """Call `application`, and answer with what it returns in slices of `SLICE_BYTES`."""

    def __init__(self, application: Application, clients: SlowClients, folder: Path | None = None) -> None:
        self._application = application
        self._clients = clients
        self._folder = folder

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Return the answer; one of more than a slice is in a file below the folder by then, and nowhere else.

        Where files of others leave no room, answer 503 to what only read. Other answers stay in memory, as all do where
        the file cannot be written: they say what was done.
        """
        started: list[tuple[Any, ...]] = []
        answer: Any = self._application(environ, lambda *arguments: started.append(arguments))
        connection = environ.get("gunicorn.socket")
        content = getattr(answer, "content", b"")
        if getattr(answer, "streaming", False):
            client = self._clients.client(connection)
            client.sends = False
            client.share = 1 if answer.get("Content-Type", "").startswith("text/event-stream") else EXPORT_SHARE
            start_response(*started[-1])
            return _Slices(_of_stream(answer, client), client.close, answer.close)
        if len(content) <= SLICE_BYTES:
            start_response(*started[-1])
            return answer  # type: ignore[no-any-return]
        answer.content = b""
        answer.data = None  # of the REST framework
        answer.close()
        del answer
        client = self._clients.client(connection)
        client.sends = False
        try:
            slices = self._kept(content, client)
        except UnavailableError as error:
            if environ.get("REQUEST_METHOD") in ("GET", "HEAD"):
                client.close()
                return answer_error(error, start_response)
            slices = _Slices(_of_stream((content,), client), client.close)
        except BaseException:
            client.close()
            raise
        start_response(*started[-1])
        return slices

    def _kept(self, content: bytes, client: SlowClient) -> _Slices:
        """Return slices of a file. Raise `UnavailableError` if there is no room for it beside others."""
        client.grow(len(content))
        with contextlib.ExitStack() as held:
            try:
                kept = TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed with the answer
                held.callback(close_file, kept)
                _write(kept, content)
            except OSError as error:
                log.warning("answer kept in memory reason=%s", error.strerror)
                client.grow(-len(content))
                return _Slices(_of_stream((content,), client), client.close)
            held.pop_all()
        return _Slices(_of_file(kept, client), client.close, kept.close)


class _Slices:
    """Slices, and what to call once they were sent or given up."""

    def __init__(self, slices: Iterator[bytes], *closes: Callable[[], object]) -> None:
        self._slices = slices
        self._closes = closes

    def __iter__(self) -> Iterator[bytes]:
        return self._slices

    def close(self) -> None:
        """Let go of all. Can be called twice."""
        for close in self._closes:
            close()


def _write(kept: IO[bytes], content: bytes) -> None:
    turn = sleeping_turn()
    for start in range(0, len(content), SLICE_BYTES):
        kept.write(memoryview(content)[start : start + SLICE_BYTES])
        turn()
    kept.seek(0)


def _of_file(kept: IO[bytes], client: SlowClient) -> Iterator[bytes]:
    while piece := kept.read(SLICE_BYTES):
        with client.awaited():
            yield piece


def _of_stream(pieces: Iterable[bytes], client: SlowClient) -> Iterator[bytes]:
    for piece in pieces:
        client.hold(piece)
        for start in range(0, max(len(piece), 1), SLICE_BYTES):
            with client.awaited():
                yield piece[start : start + SLICE_BYTES]
        client.hold(None)
