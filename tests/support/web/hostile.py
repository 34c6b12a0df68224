"""A corpus of hostile values, and requests of raw bytes to the site's WSGI application."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from urllib.parse import quote, unquote_to_bytes

DEEP = 10_000  # levels

# In paths and query strings, percent-encoded as they are sent.
TEXTS: tuple[str, ...] = (
    "", "%00", "a%00b", "%ED%A0%80", "%ED%BF%BF", "%FF", "%C3%28", "%F4%90%80%80", "%EF%BF%BF", "%E2%80%AE", "n" * 3000,
    "..", "...", "a..b", "a.", ".a", "$", "$where", "a.$b", "system.x", "%24eval", "*", "%25", "%2F", "a%2Fb", "%5C",
    "+",
    "%0D%0AX-Injected:%201", "%22", "'%20OR%201=1", "%3Cscript%3E", "null", "true", "[]", "{}", "0", "-0", "-1",
    "1e400",
    "NaN", "Infinity", "9223372036854775807", "9223372036854775808", "9" * 400, "1_000", "%D9%A1", "0x10", "1.5",
    "%2B1",
    "0000-01-01", "0001-01-01", "9999-12-31", "9999-12-31T23:59:59.999999", "10000-01-01", "2024-02-30", "2024-W99",
    "-999999999999d", "9999-12-31T23:59-14:00", "0001-01-01T00:00%2B14:00", "Europe/Berlin", "Europe/Berlin%00",
    "../../etc/passwd", "/etc/passwd", "Etc/GMT%2B99", "UTC%0A", "aWQ6MQ", "aWQ6OTk5OTk5OTk5OTk5OTk5OTk5OTk",
    "aWQ6wrI", "====",
    "j.1.1", "j.1.99999999999999999999", "j.-1.1", "j..1", "0-0-1", "yes", "1", "value", "-value", "-", "--", "a:b",
    ":", "a:",
    ":%ED%A0%80", "a.b:1e400", "a:9223372036854775808",
)  # fmt: skip

# JSON texts, for filters, queries and bodies.
JSONS: tuple[bytes, ...] = (
    b"", b" ", b"null", b"true", b"0", b"-0", b'"x"', b"[]", b"{}", b"[null]", b"{", b"[", b'{"a"', b"\xff",
    b"\xef\xbb\xbf{}",
    b"NaN", b"Infinity", b"-Infinity", b"1e400", b'{"a": 1e400}', b'{"a": NaN}', b'{"a": 9223372036854775808}',
    b'{"a": ' + b"9" * 5000 + b"}", b'{"a": -0.0}', b'{"a": 1, "a": 2}', b'{"": 1}', b'{"": {"": []}}',
    b'{"$where": "1"}',
    b'{"$gt": 1}', b'{"a": {"$gt": {"$gt": 1}}}', b'{"a": {"$in": 1}}', b'{"a": {"$in": [{"$gt": 1}]}}', b'{"$or": []}',
    b'{"$or": [null]}', b'{"$and": [{"$or": [{"$nor": [{}]}]}]}', b'{"a": {"$datetime": 1e300}}',
    b'{"a": {"$datetime": null}}',
    b'{"a": {"$datetime": "x"}}', b'{"a": {"$exists": []}}', b'{"a": null}', b'{"_id": {"$gt": null}}', b'{"_id": {}}',
    b'{"a.b": 1}', b'{"a..b": 1}', b'{".a": 1}', b'{"a.": 1}', b'{"a\\u0000b": 1}', b'{"a": {"b\\u0000": 1}}',
    b'{"a": [{"b\\u0000": 1}]}', b'{"a": "\\u0000"}', b'{"\\ud800": 1}', b'{"a": "\\ud800"}', b'{"a": {"\\udfff": 1}}',
    b'{"a": ["x\\ud83d"]}', b'{"a": "\xed\xa0\x80"}', b'{"a": {"$oid": "x"}}', b'{"a": {"$numberLong": "x"}}',
    b'{"a": {"$ref": "x", "$id": 1}}', b'{"a": {"$regex": "("}}', b"[" * DEEP, b"[" * DEEP + b"]" * DEEP,
    b'{"a":' * DEEP + b"1" + b"}" * DEEP, b'{"a":' * 150 + b"1" + b"}" * 150, b'{"a":' * 9 + b"1" + b"}" * 9,
    b'{"' + b"n" * 70_000 + b'": 1}', b"[" + b"1," * 5_000 + b"1]", b'\x00', b'{"a": 1}\x00',
)  # fmt: skip

HEADERS: tuple[Mapping[str, str], ...] = (
    {"HTTP_ACCEPT": "text/html"}, {"HTTP_ACCEPT": ""}, {"HTTP_ACCEPT": "*"}, {"HTTP_ACCEPT": "/"},
    {"HTTP_ACCEPT": "\xff"},
    {"HTTP_ACCEPT": "application/json; indent=4"}, {"HTTP_ACCEPT": "application/json; indent=x"},
    {"HTTP_ACCEPT": "application/json; indent=999999999999"}, {"HTTP_ACCEPT": "application/json; indent=-1"},
    {"HTTP_ACCEPT": "application/json; q=x"}, {"HTTP_ACCEPT": "text/html;q=\x00, ;;;,,,="},
    {"HTTP_ACCEPT": "a/b" * 1000},
    {"HTTP_ACCEPT": "text/html; q*=x; q*0=y"}, {"HTTP_ACCEPT": "a/b, application/json; indent*0=x; indent*=y"},
    {"HTTP_ACCEPT": 'text/html; charset*=x\'y\'z'}, {"HTTP_ACCEPT": "application/vnd.oai.openapi; version=x"},
    {"HTTP_RANGE": "bytes=0-0"}, {"HTTP_RANGE": "bytes=-,x-1"}, {"HTTP_IF_NONE_MATCH": '"' * 50},
    {"HTTP_IF_NONE_MATCH": "*"},
    {"HTTP_IF_NONE_MATCH": "\xff,,W/"}, {"HTTP_IF_MODIFIED_SINCE": "0000"},
    {"HTTP_IF_MODIFIED_SINCE": "Mon, 99 Xxx 99999"},
    {"HTTP_IF_UNMODIFIED_SINCE": "\xff"}, {"HTTP_LAST_EVENT_ID": "a.b,c.99999999999999999,\xff"},
    {"HTTP_COOKIE": "\xff=;;=\x00"},
    {"HTTP_AUTHORIZATION": "\xff"}, {"HTTP_AUTHORIZATION": "Token"}, {"HTTP_AUTHORIZATION": "Token a b c"},
    {"HTTP_AUTHORIZATION": "Token \xed\xa0\x80"}, {"HTTP_AUTHORIZATION": "Token " + "x" * 8000},
    {"HTTP_ORIGIN": "null"},
    {"HTTP_ORIGIN": "\xff"}, {"HTTP_ORIGIN": "http://[::1"}, {"HTTP_REFERER": "http://[::1"},
    {"HTTP_X_FORWARDED_FOR": "\xff"},
    {"HTTP_X_FORWARDED_HOST": "[::1"}, {"HTTP_X_FORWARDED_PROTO": "\xff"}, {"HTTP_HOST": "[::1"}, {"HTTP_HOST": "\xff"},
    {"HTTP_HOST": "localhost:99999999"}, {"HTTP_ACCEPT_LANGUAGE": "\xff;q=x"}, {"HTTP_ACCEPT_ENCODING": "\xff"},
    {"HTTP_X_CSRFTOKEN": "\xff"}, {"HTTP_X_HTTP_METHOD_OVERRIDE": "DELETE"}, {"HTTP_EXPECT": "x"},
    {"HTTP_CONTENT_ENCODING": "gzip"},
    {"QUERY_STRING": "%"}, {"QUERY_STRING": "%ZZ=%"}, {"QUERY_STRING": "&&&==&=&"}, {"QUERY_STRING": "format=x"},
    {"QUERY_STRING": "format=api"}, {"QUERY_STRING": "format=json&format=json"}, {"QUERY_STRING": "a=1&" * 2000},
    {"QUERY_STRING": "\xff\x00=\xed\xa0\x80"}, {"QUERY_STRING": "limit=1&limit=%00&from=&from=x&tz=&tz=%00"},
)  # fmt: skip

CONTENT_TYPES: tuple[str, ...] = (
    "", "application/json", "application/json; charset=utf-16", "application/json; charset=\xff",
    "application/json;charset*=x''%FF",
    "text/plain", "application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=hex",
    "multipart/form-data",
    "multipart/form-data; boundary=", "multipart/form-data; boundary=\xff", "multipart/form-data; boundary=x", "/",
    "\xff", "a" * 500,
    "application/x-ndjson", "application/xml", "a;b*=c;b*0=d", "application/json; charset*=a; charset*0=b",
)  # fmt: skip

# Types of a form whose parts are told apart by x, or by nothing that can be read.
MULTIPART_TYPES: tuple[str, ...] = (
    *('multipart/form-data; boundary=x', 'multipart/form-data; boundary="x"', 'multipart/form-data; boundary="x'),
    "multipart/form-data; boundary", "multipart/form-data; boundary= x ; charset=utf-7",
    "multipart/form-data\t;boundary=x",
    'multipart/form-data; boundary=""', "multipart/form-data; boundary=" + "b" * 71,
    "multipart/form-data; boundary=" + "b" * 5_000, "multipart/form-data; boundary*=x; boundary*0=y",
    "multipart/form-data; boundary*0=x; boundary*=y", "multipart/form-data; boundary*=utf-8''%0D%0A",
    "multipart/form-data; boundary*=utf-8''%ED%A0%80", "multipart/form-data; boundary*=idna''x",
    "multipart/form-data; boundary*=undefined''x", "multipart/form-data; boundary*" + "9" * 5_000 + "=x",
    "multipart/form-data; charset*=x; charset*0=y; boundary=x", "multipart/form-data; boundary=x; boundary=y",
    "multipart/form-data; charset=nonsense; boundary=x", "multipart/mixed; boundary=x", ";boundary=x",
)  # fmt: skip

# Headers of a part.
PART_HEADERS: tuple[bytes, ...] = (
    *(b'content-disposition: form-data; name="a"; filename="%s"' % name for name in (
        b"", b"f", b"a\0b", b"\xed\xa0\x80", b"../../etc/passwd", b"..", b"C:\\x", b"n" * 300, b"a." + b"e" * 300,
        b"&#55296;.x", b"&#x110000;", b"&#" + b"9" * 900 + b";", b"a.\xff", b'\\"', b"a\rb", b"a\nb")),
    *(b"content-disposition: form-data; name=a; filename*=" + name for name in (
        b"UTF-8''%e2%82%ac", b"UTF-8''%ED%A0%80", b"UTF-8''..%2F..%2Fx", b"UTF-8''%00", b"nonsense''x", b"hex''00",
        b"idna''x", b"unicode_escape''%5Cud800", b"'", b"x; filename*0=y")),
    *(b"content-disposition: " + value for value in (
        b"", b";", b"=", b"form-data", b"form-data; name", b'form-data; name=""', b"form-data; name=\xed\xa0\x80",
        b"form-data; name=a\0b", b"form-data; name*=a; name*0=b", b"form-data; name*0=a; name*=b",
        b"form-data; filename*=a; filename*0=b; name=c", b"form-data; name*" + b"9" * 900 + b"=x",
        b"form-data; filename=x", b"form-data; name=csrfmiddlewaretoken", b"form-data; name=_selected_action",
        b"form-data; name=a; name=b")),
    *(b"content-disposition: form-data; name=a\r\n" + more for more in (
        b"content-transfer-encoding: base64", b"content-transfer-encoding: base64; x*=a; x*0=b",
        b"content-type: text/plain; charset*=a; charset*0=b", b"content-type: text/plain; charset=nonsense",
        b"content-type: multipart/mixed; boundary=y", b"content-length: " + b"9" * 900, b"\xff: \xff", b":", b"x",
        b"a: " + b"b" * 2_000, b"\r\n".join([b"a;b"] * 200), b"folded: a\r\n b",
        b"content-disposition: form-data; name=z")),
)  # fmt: skip

PART_BODIES: tuple[bytes, ...] = (
    b"v", b"", b"a=", b"====", b"\xff\x00\xed\xa0\x80", b"-" * 3_000, b"--y\r\n\r\nz\r\n--y--", b"\r\n" * 500,
    b"x" * 70_000,
)  # fmt: skip


def part(headers: bytes, body: bytes = b"v") -> bytes:
    """Return a part of a form whose boundary is x."""
    return b"--x\r\n" + headers + b"\r\n\r\n" + body + b"\r\n"


FIELD = b"content-disposition: form-data; name=a"
LAST = b"--x--\r\n"
FORMS: tuple[bytes, ...] = (
    *(part(headers, PART_BODIES[number % len(PART_BODIES)]) + LAST for number, headers in enumerate(PART_HEADERS)),
    *(part(FIELD + b"; filename=f\r\ncontent-transfer-encoding: base64", body) + LAST for body in PART_BODIES),
    b"--x", b"--x--", b"--x\r\n", b"--x\r\n\r\n", b"--x\n\nv\n--x--", b"x", b"--x\r\n" + FIELD, b"\r\n--x\r\n" * 3_000,
    b"--x" * 20_000, b"--x--" * 20_000, b"--x\r\n" + b"a" * 50_000, part(FIELD) * 1_500 + LAST,
    part(b"") * 1_500 + LAST, part(FIELD + b"; filename=f") * 200 + LAST, part(FIELD),
    part(b"content-disposition: a; filename=f") * 1_500 + LAST,
)  # fmt: skip

METHODS: tuple[str, ...] = (
    "TRACE",
    "PATCH",
    "PUT",
    "DELETE",
    "POST",
    "OPTIONS",
    "HEAD",
    "CONNECT",
    "get",
    "X\xff",
    "PROPFIND",
)


@dataclass(frozen=True)
class HostileRequest:
    """One request, as bytes that a server would hand over."""

    path: str  # percent-encoded, with the query
    method: str = "GET"
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)  # in the form of WSGI

    def __str__(self) -> str:
        return (
            f"{self.method} {self.path[:150]} {self.content_type[:40]!r} {dict(self.headers)!r:.150} {self.body[:80]!r}"
        )


def status_of(application: Any, request: HostileRequest, as_user: Mapping[str, str]) -> int:
    """Return the status of the answer, of which the first part is read (a stream has no end)."""
    path, _, query = request.path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method, "SCRIPT_NAME": "", "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query, "SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost", "wsgi.version": (1, 0), "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(request.body), "wsgi.errors": BytesIO(), "wsgi.multithread": False,
        "wsgi.multiprocess": False, "wsgi.run_once": False, "CONTENT_LENGTH": str(len(request.body)),
        "CONTENT_TYPE": request.content_type,
    }  # fmt: skip
    seen: list[str] = []
    answer = application(environ | dict(as_user) | dict(request.headers), lambda status, *_: seen.append(status))
    try:
        next(iter(answer), b"")
    finally:
        if hasattr(answer, "close"):
            answer.close()
    return int(seen[0].split()[0])


def in_query(value: bytes) -> str:
    """Return bytes as part of a query string."""
    return quote(value, safe="")
