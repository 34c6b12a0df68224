"""Bodies for which there is no room on the disk."""

from __future__ import annotations

import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from aggregates.web.body_error import UnservedBodyError
from zarkov_site.promised_input import MEMORY_BYTES, BodyMeans, PromisedInput
from zarkov_site.request_body import WholeBody


@pytest.fixture(autouse=True)
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each new file be one for which the kernel has no space (full(4))."""
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Path("/dev/full").open("w+b"))  # noqa: SIM115


@pytest.mark.parametrize("size", [MEMORY_BYTES + 1, 10 * MEMORY_BYTES])
def test_a_body_of_known_length_is_to_be_sent_again_where_the_disk_is_full(size: int) -> None:
    means = BodyMeans()
    body = PromisedInput(BytesIO(bytes(size)), size, means.clients.client(None), means)
    with pytest.raises(UnservedBodyError, match=r"no room for the body .* send it again later"):
        body.read()
    body.close()
    assert means.clients.file_bytes == 0


def test_a_small_body_needs_no_file() -> None:
    means = BodyMeans()
    body = PromisedInput(BytesIO(bytes(MEMORY_BYTES)), MEMORY_BYTES, means.clients.client(None), means)
    assert body.read() == bytes(MEMORY_BYTES)
    body.close()


def test_a_chunked_body_gets_503_where_the_disk_is_full() -> None:
    started: list[tuple[Any, ...]] = []
    environ = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True, "REQUEST_METHOD": "POST",
               "SERVER_NAME": "localhost", "SERVER_PORT": "80", "PATH_INFO": "/q",
               "wsgi.input": BytesIO(bytes(10 * MEMORY_BYTES))}  # fmt: skip
    WholeBody(lambda *_: [b"reached"])(environ, lambda *each: started.append(each))
    ((status, headers),) = started
    assert (status, dict(headers)["Retry-After"]) == ("503 Service Unavailable", "2")
