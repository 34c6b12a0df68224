"""Give Django the body of a request as it expects it: of known length, whole, and in UTF-8.

A WSGI application (PEP 3333) around the site. Django reads `Content-Length` bytes and nothing of a body that comes in
chunks (RFC 9112, section 7.1); the server decodes the chunks and says so by `wsgi.input_terminated`.
"""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from django.core.handlers.wsgi import WSGIRequest
from django.utils.http import parse_header_parameters

from aggregates.web.body_error import UnservedBodyError
from aggregates.web.body_limit import FORM_TYPES, MAX_BODY_BYTES, MAX_DRAINED_BYTES
from aggregates.web.exceptions import BadRequestError, TooLargeError, WebError
from aggregates.web.middleware import unknown_host
from zarkov_site.error_answer import answer_error
from zarkov_site.promised_input import TOO_SLOW, BodyMeans, PromisedInput, keep
from zarkov_site.slow_client import SlowClient, close_file

_STEP_BYTES = 2**16
_LENGTH = re.compile(r"[0-9]{1,19}\Z")

Environ = dict[str, Any]
Application = Callable[[Environ, Any], Iterable[bytes]]
log = logging.getLogger(__name__)


class CodingError(WebError, code="unsupported_transfer_coding", status=501):
    """The body has a transfer coding other than `chunked` (RFC 9112, section 6.1)."""


class WholeBody:
    """Call `application` with a body of known length; answer 400, 413, 501 or 503 itself for a chunked one without."""

    def __init__(self, application: Application, means: BodyMeans | None = None) -> None:
        self._application = application
        self._means = means or BodyMeans()

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Read a chunked body, at most `MAX_BODY_BYTES`, then go on; one of known length is read when it is asked for.

        What has neither chunks nor a length that is one is refused.
        """
        coding = str(environ.get("HTTP_TRANSFER_ENCODING", "")).strip().lower()
        if not coding or not environ.get("wsgi.input_terminated"):
            length = str(environ.get("CONTENT_LENGTH") or "")
            if length and not _LENGTH.match(length):  # Python reads more as a number than RFC 9110, section 8.6
                error = BadRequestError(f"Content-Length: {length[:60]!a} is not a number of bytes")
                return answer_error(error, start_response)
            if not length or not int(length):
                return self._application(environ, start_response)
            client = self._means.clients.client(environ.get("gunicorn.socket"))
            body = PromisedInput(environ["wsgi.input"], int(length), client, self._means)
            with closing(body):
                return self._application(environ | {"wsgi.input": body}, start_response)
        if unknown_host(WSGIRequest(dict(environ))) is not None:  # it will be refused, whatever the body says
            return self._application(_with_body(environ, BytesIO(), 0), start_response)
        with closing(self._means.clients.client(environ.get("gunicorn.socket"))) as client:
            try:
                if coding != "chunked":
                    raise CodingError(
                        f"Transfer-Encoding: {coding[:60]} is not supported: send chunked, or Content-Length"
                    )
                kept, length_bytes = _read_chunked(environ["wsgi.input"], client, self._means)
            except WebError as error:
                log.info("body refused path=%s reason=%s", environ.get("PATH_INFO"), error.message)
                return answer_error(error, start_response)
            with closing(PromisedInput.of_file(kept, length_bytes, client, self._means)) as body:
                return self._application(_with_body(environ, body, length_bytes), start_response)


class TextInUtf8:
    """Call `application` with a request whose address and text are UTF-8; answer 400 itself for a form that is not.

    Django reads the address, too, in the `charset` of the body: some make texts of it that are no Unicode, and with
    others, such as `hex`, it fails. An address has no such encoding (RFC 3986, section 2.5), and JSON is UTF-8 or names
    its encoding by a byte order mark.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Leave out the `charset`, of which Django knows one spelling of UTF-8 only, and what cannot be read."""
        given = str(environ.get("CONTENT_TYPE") or "")
        try:
            kind, parameters = parse_header_parameters(given)
        except (LookupError, TypeError, ValueError):  # of one such as charset*=nonsense''x (RFC 2231, section 4)
            return self._application(environ | {"CONTENT_TYPE": given.partition(";")[0].strip()}, start_response)
        charset = parameters.pop("charset", None)
        if charset is None:
            return self._application(environ, start_response)
        if kind not in FORM_TYPES:
            return self._application(environ | {"CONTENT_TYPE": kind}, start_response)
        if _is_other_than_utf_8(charset):
            error = BadRequestError(f"charset={charset[:60]} is not read in a form: send UTF-8", parameter="charset")
            return answer_error(error, start_response)
        return self._application(environ | {"CONTENT_TYPE": "; ".join([kind, *_quoted(parameters)])}, start_response)


def _is_other_than_utf_8(charset: str) -> bool:
    try:
        return codecs.lookup(charset).name not in ("utf-8", "ascii")
    except (LookupError, ValueError):
        return False  # Django leaves an unknown one out, too


def _quoted(parameters: dict[str, str]) -> Iterator[str]:
    """Yield parameters as they are written in a header (RFC 9110, section 5.6.6)."""
    for name, value in parameters.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        yield f'{name}="{escaped}"'


def _with_body(environ: Environ, body: Any, length_bytes: int) -> Environ:
    """Return `environ` with another body; what is behind us is not chunked."""
    given = {name: value for name, value in environ.items() if name != "HTTP_TRANSFER_ENCODING"}
    return given | {"wsgi.input": body, "CONTENT_LENGTH": str(length_bytes)}


def _read_chunked(stream: Any, client: SlowClient, means: BodyMeans) -> tuple[SpooledTemporaryFile[bytes], int]:
    """Return a file with the decoded body, at its start, and its length.

    Raise `TooLargeError`, once the rest was read, since many clients send everything before they read an answer;
    `BadRequestError` if the chunks are malformed, end early, or are too small (`zarkov_site.request_limit`); and
    `UnservedBodyError` while too many others are under way.
    """
    body = means.file()
    try:
        length_bytes = _write_chunked(stream, body, client)
    except BaseException:
        close_file(body)
        raise
    body.seek(0)
    return body, length_bytes


def _write_chunked(stream: Any, body: IO[bytes], client: SlowClient) -> int:
    got = 0
    try:
        while True:
            with client.awaited():
                data = stream.read(_STEP_BYTES)
            if not data:
                break
            got += len(data)
            if got <= MAX_BODY_BYTES:
                keep(data, body, client)
            elif got > MAX_DRAINED_BYTES:
                break
    except WebError:
        raise
    except Exception as error:  # noqa: BLE001 - each server has its own; all mean that the body cannot be read
        if client.ended:
            raise UnservedBodyError(TOO_SLOW) from None
        reason = f"{type(error).__name__} {error}".strip()
        raise BadRequestError(f"the chunked body is malformed or ended early ({reason[:100]}): send it again") from None
    if got > MAX_BODY_BYTES:
        raise TooLargeError(f"the body has more than {MAX_BODY_BYTES} bytes: send less at once")
    return got
