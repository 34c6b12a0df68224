"""Numbers, booleans and names of folders: a value that would be read differently than it is written is refused."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

import pytest

from tests.support.configuration import config, environment, in_file, refusal
from zarkov_site.config.source import SET_VARIABLE, known_keys

WHOLE = ("web_port", "incremental", "refresh_min_ms", "journal_max_bytes", "metrics.port", "zmr.map_job_size")
WHOLE_OR_NONE = ("zmr.local_workers", "zmr.map_page_size")
FOLDERS = ("home", "journal", "zmr.job_root")


@pytest.mark.parametrize(
    "text",
    [
        *("080", "010", "00", "0x1F", "0b11", "0o17", "1_000", "1:30", "+010", "-0x1", "8081.5", "1e", "5.", ".5"),
        *(".nan", ".inf", "-.inf", "nan", "inf", "true", "yes", "on", "'\u0663'", "2026-01-01", "[8081]", "{a: 8081}"),
    ],
)
@pytest.mark.parametrize("key", [*WHOLE, *WHOLE_OR_NONE, "notify.lag_s"])
def test_a_number_that_yaml_reads_differently_is_refused(tmp_path: Path, key: str, text: str) -> None:
    if (key, text) == ("notify.lag_s", "8081.5"):
        assert config(tmp_path, in_file(tmp_path, key, text)).notify.lag_s == 8081.5
        return
    assert f"{key}: " in refusal(tmp_path, in_file(tmp_path, key, text))


@pytest.mark.parametrize("text", ["080", "0x1F", "1_000", "1e3", "8081.0", "8081.5", "True", "1.0e+3", "NaN", "٣"])
@pytest.mark.parametrize("key", [*WHOLE, *WHOLE_OR_NONE])
def test_a_whole_number_is_written_with_its_digits_in_every_source(tmp_path: Path, key: str, text: str) -> None:
    for environ in (environment(key, text), {SET_VARIABLE: f"{key}={text}"}, in_file(tmp_path, key, text)):
        assert f"{key}: " in refusal(tmp_path, environ)


@pytest.mark.parametrize("text", ["010 MiB", "0x10 MiB", "1_0 MiB", "1.5 MiB", "10 Mib b", "8 YiB"])
def test_a_size_has_a_plain_number(tmp_path: Path, text: str) -> None:
    assert "journal_max_bytes: " in refusal(tmp_path, environment("journal_max_bytes", text))
    assert "journal_max_bytes: " in refusal(tmp_path, in_file(tmp_path, "journal_max_bytes", text))


def test_the_error_of_a_number_shows_it_as_it_is_written(tmp_path: Path) -> None:
    assert "web_port: '0x1F91' is not allowed" in refusal(tmp_path, in_file(tmp_path, "web_port", "0x1F91"))
    assert "without leading zeros" in refusal(tmp_path, in_file(tmp_path, "web_port", "010"))


@pytest.mark.parametrize(
    ("key", "text", "number"),
    [
        *(("web_port", text, 8081) for text in ("8081", "'8081'", "'8081 '", "+8081")),
        *(("journal_max_bytes", text, 2**24) for text in ("16777216", "16 MiB", "'16MiB '")),
        *(("notify.lag_s", text, 1000) for text in ("1000", "1000.0", "1e3", "1.0e+3")),
        ("web_port", "0", 0),
    ],
)
def test_a_plain_number_is_read_as_it_is_written(tmp_path: Path, key: str, text: str, number: float) -> None:
    assert attrgetter(key)(config(tmp_path, in_file(tmp_path, key, text))) == number
    assert attrgetter(key)(config(tmp_path, environment(key, text.strip("'")))) == number


@pytest.mark.parametrize("word", ["true", "False", "yes", "NO", " on "])
def test_a_word_for_a_boolean_is_one_in_settings_of_booleans_only(tmp_path: Path, word: str) -> None:
    booleans = {"anonymous_read", "allow_insecure_bind", "verbose", "zmr.allow_source"}
    for key in set(known_keys()) - booleans:
        assert f"{key}: " in refusal(tmp_path, environment(key, word))
    assert config(tmp_path, environment("verbose", word.strip())).verbose is (word.strip() in {"true", "yes", "on"})


@pytest.mark.parametrize("text", ["''", "' '", "' a'", "'a '", '"a\\nb"', '"a\\tb"', "'~/zarkov'", "'~'", "5", "[a]"])
@pytest.mark.parametrize("key", FOLDERS)
def test_a_folder_has_a_name_that_is_meant(tmp_path: Path, key: str, text: str) -> None:
    assert f"{key}: " in refusal(tmp_path, in_file(tmp_path, key, text))


@pytest.mark.parametrize("text", ["a b", "ä", "/srv/zarkov", "../x", "{a}"])
@pytest.mark.parametrize("key", FOLDERS)
def test_a_folder_may_have_blanks_and_other_letters_inside(tmp_path: Path, key: str, text: str) -> None:
    assert attrgetter(key)(config(tmp_path, environment(key, text))) == Path(text)
