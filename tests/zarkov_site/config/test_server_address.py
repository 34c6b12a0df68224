"""Settings that name sites, hosts and servers: only what is understood is taken, from every source."""

from __future__ import annotations

import json
from operator import attrgetter
from pathlib import Path

import pytest

from tests.support import command
from tests.support.configuration import LISTS, config, environment, file, in_file, refusal
from zarkov_site.config.source import SET_VARIABLE

ORIGINS = [
    *("https://wiki.example.org", "http://127.0.0.1:8000", "https://xn--bcher-kva.example", "http://localhost:3000"),
    *("http://[::1]:3000", "https://a.example:8443"),
]
NO_ORIGINS = [
    *("true", "5", "a.example", "//a.example", "https://", "https://:80", "ftp://a.example", "null", "file://"),
    *("https://a.example/", "https://a.example/x", "https://a.example?x", "https://a.example#x", "https://u@a.example"),
    *("HTTPS://a.example", "https://A.example", "https://*.example", "https://*", "https://bücher.example"),
    *("https://a.example https://b.example", "https://a.example\nhttps://b.example", " https://a.example"),
    *("https://a.example:443", "http://a.example:80", "https://a.example:", "https://a.example:0x50"),
    *("https://a.example:99999", "https://a.example:0443", "http://127.1", "http://[::0001]", "https://a.example."),
    *("https:\\\\a.example", "https://a.example\t"),
]
STRANGE_YAML = ["true", '" "', '""', "5", "{a: b}", "[[a.example]]", "[true]", "[5]", "[null]", '["a b"]', '["a\\nb"]']
ADDRESSES = (
    *("bson_bind_address", "json_bind_address", "ack_bind_address", "publish_bind_address", "web_host", "public_url"),
    *("mongo_uri", "backdoor", "zmr.req_bind", "zmr.req_uri", "zmr.worker_bind", "zmr.worker_uri", "metrics.host"),
    *("notify.email_from", "notify.smtp_url", "notify.webhook"),
)


@pytest.mark.parametrize("origin", ORIGINS)
def test_an_origin_is_taken_as_browsers_send_it(tmp_path: Path, origin: str) -> None:
    for given in (json.dumps([origin]), f"{origin}, https://other.example"):
        assert config(tmp_path, environment("cors_origins", given)).cors_origins[0] == origin
    assert config(tmp_path, file(tmp_path, f"cors_origins: ['{origin}']")).cors_origins == [origin]


@pytest.mark.parametrize("origin", NO_ORIGINS)
def test_what_no_browser_sends_as_an_origin_is_refused_with_the_form(tmp_path: Path, origin: str) -> None:
    good = "https://wiki.example.org"
    text = json.dumps([good, origin])
    for environ in (environment("cors_origins", text), file(tmp_path, f"cors_origins: {text}")):
        message = refusal(tmp_path, environ)
        assert "cors_origins: " in message and f"{origin!r} is not an origin" in message
        assert "scheme://host[:port]" in message


def test_the_error_names_the_origin_that_was_meant(tmp_path: Path) -> None:
    message = refusal(tmp_path, environment("cors_origins", "HTTPS://Wiki.Example.org:443/page"))
    assert "https://wiki.example.org is" in message


@pytest.mark.parametrize("text", ["*", '["*"]', "[ '*' ]"])
def test_a_star_alone_is_every_site(tmp_path: Path, text: str) -> None:
    assert config(tmp_path, file(tmp_path, f"cors_origins: {text if '[' in text else json.dumps(text)}")).cors_origins
    assert "cors_origins: " in refusal(tmp_path, environment("cors_origins", "*, https://a.example"))


@pytest.mark.parametrize("text", STRANGE_YAML)
@pytest.mark.parametrize("key", [*ADDRESSES, *LISTS])
def test_a_value_of_another_kind_is_refused_for_every_address_and_list(tmp_path: Path, key: str, text: str) -> None:
    assert f"{key}: " in refusal(tmp_path, in_file(tmp_path, key, text))


@pytest.mark.parametrize("text", ["true", "YES", " ", "5", '{"a": 1}', "[[1]]", "a b", "a\nb", "http://a b", "a@b c"])
@pytest.mark.parametrize("key", [*ADDRESSES, *LISTS])
def test_text_that_is_no_address_is_refused_from_the_environment_too(tmp_path: Path, key: str, text: str) -> None:
    assert f"{key}: " in refusal(tmp_path, environment(key, text))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        *(
            ("notify.webhook", text)
            for text in ("http://", "https://:80", "http://u@a", "http://a:0", "http://a:70000")
        ),
        *(
            ("notify.webhook", text)
            for text in ("HTTP://a", "http://ä", "http://a\\b", "http://?q", "http://*", "ftp://a")
        ),
        *(
            ("notify.smtp_url", text)
            for text in ("smtp://a:0", "smtp://a:70000", "smtp://a:\u0663", "smtp://", "smtp:a")
        ),
        *(("mongo_uri", text) for text in ("mongodb://", "mongodb://a b", "mongodb://a:70000", "mongodb://a:b@c:d/")),
        *(("mongo_uri", text) for text in ("mongodb+srv://", "mongodb:///x", "mongodb://a/?nothing", "MONGODB://a")),
        *(
            ("notify.email_from", text)
            for text in (
                "zarkov",
                "a@b\nBcc: c@d",
                "a@b, c@d",
                "<a@b",
                "a@",
                "@b",
                "N <a b>",
                '"a, b" <c>',
                '"a" <a@b>, c@d',
            )
        ),
        *(("notify.email", text) for text in ("zarkov", "N <a@b>", "a@b;c@d", "<a@b>", "a@b\x00")),
    ],
)
def test_an_address_that_nothing_could_be_sent_to_is_refused(tmp_path: Path, key: str, text: str) -> None:
    assert f"{key}: " in refusal(
        tmp_path, {SET_VARIABLE: f"{key}={text}"} if "\n" not in text else environment(key, text)
    )


@pytest.mark.parametrize(
    ("key", "text"),
    [
        *(
            ("notify.webhook", text)
            for text in ("http://a", "https://a.example:8443/x?y=z#t", "http://[::1]:80/", "http://a_b")
        ),
        *(
            ("notify.smtp_url", text)
            for text in ("smtp://a", "smtps://u:p%20w@a.example:465/", "smtp://127.0.0.1:65535")
        ),
        *(
            ("mongo_uri", text)
            for text in ("mongodb://a", "mongodb://u:p@a:1,b:2/x?replicaSet=r", "mongodb+srv://a.b.c/")
        ),
        *(("notify.email_from", text) for text in ("zarkov@localhost", "Zarkov <zarkov@a.example>", "Zoë B. <z@a>")),
        *(
            ("notify.email_from", text)
            for text in ("o'brien@a.example", "Pat O'Brien <p@a>", '"Lee, Ann" <a@b.example>', '"Zarkov; [test]" <z@a>')
        ),
    ],
)
def test_an_address_of_the_right_form_is_taken_as_it_is(tmp_path: Path, key: str, text: str) -> None:
    assert attrgetter(key)(config(tmp_path, environment(key, text))) == text


def test_checkconfig_refuses_an_origin_that_is_not_understood(tmp_path: Path) -> None:
    done = command.manage("checkconfig", environ={"ZARKOV_HOME": str(tmp_path), "ZARKOV_CORS_ORIGINS": "true"})
    assert done.returncode == 1
    assert "cors_origins: 'true' is not allowed" in done.stderr
