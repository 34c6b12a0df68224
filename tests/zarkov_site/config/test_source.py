"""Sources of the configuration, their precedence, and the error messages for mistakes."""

from __future__ import annotations

import re
from operator import attrgetter
from pathlib import Path

import pytest

from tests.support.configuration import LISTS, config, file, refusal
from zarkov_site.config.source import FILE_VARIABLE, SET_VARIABLE, known_keys, load
from zarkov_site.exceptions import ConfigError

BLOG_2011 = """
bson_bind_address: tcp://0.0.0.0:6543
json_bind_address: tcp://0.0.0.0:6544
web_port: 8081
backdoor: 127.0.0.1:6545
mongo_uri: mongodb://localhost:27017
mongo_database: zarkov
verbose: true
incremental: 0
zmr:
  req_uri: tcp://127.0.0.1:5555
  req_bind: tcp://0.0.0.0:5555
  worker_uri: tcp://0.0.0.0
  local_workers: 2
  job_root: /tmp/zmr
  map_page_size: 250000000
  map_job_size: 10000
  outstanding_maps: 16
  outstanding_reduces: 16
  request_greenlets: 16
  compress: 0
  src_port: 0
  sink_port: 0
  processes_per_worker: null
"""


def test_defaults_are_as_documented(tmp_path: Path) -> None:
    got = config(tmp_path)
    expected = {
        "home": Path("var"),
        "bson_bind_address": "tcp://127.0.0.1:6543",
        "json_bind_address": "tcp://127.0.0.1:6544",
        "ack_bind_address": "tcp://127.0.0.1:6546",
        "publish_bind_address": "tcp://127.0.0.1:6547",
        "web_host": "127.0.0.1",
        "web_port": 8081,
        "mongo_uri": None,
        "mongo_database": "zarkov",
        "time_zone": "UTC",
        "journal_segment_bytes": 8 * 2**20,
        "journal_max_bytes": 2**30,
        "journal_sync": "batch",
        "refresh_min_ms": 100,
        "anonymous_read": False,
        "allow_insecure_bind": False,
        "zmr.engine": "zmq",
        "zmr.req_bind": "tcp://127.0.0.1:5555",
        "zmr.worker_bind": "tcp://127.0.0.1:5556",
        "zmr.reduce_count": 32,
        "zmr.map_job_size": 10_000,
        "zmr.outstanding_maps": 16,
        "zmr.outstanding_reduces": 16,
        "metrics.port": 5550,
    }
    assert {key: attrgetter(key)(got) for key in expected} == expected
    assert got.connect_address("zmr.req_uri") == "tcp://127.0.0.1:5555"
    assert got.connect_address("zmr.worker_uri") == "tcp://127.0.0.1:5556"
    assert got.journal_folder == got.folder.root / "journal"
    assert got.job_root == got.folder.root / "zmr"


def test_the_environment_overrides_the_file_and_set_overrides_both(tmp_path: Path) -> None:
    environ = file(tmp_path, "web_port: 1\nrefresh_min_ms: 1\nincremental: 1\nzmr: {reduce_count: 1, map_job_size: 1}")
    environ |= {"ZARKOV_REFRESH_MIN_MS": "2", "ZARKOV_INCREMENTAL": "2", "ZARKOV_ZMR__MAP_JOB_SIZE": "2"}
    environ |= {SET_VARIABLE: "incremental=3\nzmr.outstanding_maps=3"}
    got = config(tmp_path, environ)
    assert (got.web_port, got.refresh_min_ms, got.incremental) == (1, 2, 3)
    assert (got.zmr.reduce_count, got.zmr.map_job_size, got.zmr.outstanding_maps) == (1, 2, 3)


def test_zarkov_yaml_is_read_unless_another_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "zarkov.yaml").write_text("web_port: 7")
    assert config(tmp_path).web_port == 7
    assert config(tmp_path, file(tmp_path, "incremental: 1")).web_port == 8081


def test_the_file_of_2011_loads_with_warnings_for_keys_without_effect(tmp_path: Path) -> None:
    got, warnings = load(file(tmp_path, BLOG_2011), [tmp_path])
    assert got.verbose
    assert got.backdoor == "127.0.0.1:6545"
    assert got.job_root == Path("/tmp/zmr")
    assert got.local_workers == 2
    text = "\n".join(warnings)
    assert "zmr.map_page_size = 250000000" in text
    assert "zmr.request_greenlets = 16" in text
    assert "sink_port" not in text
    assert "bson_bind_address = tcp://0.0.0.0:6543 listens beyond loopback" in text
    assert got.engine_settings(()).worker_interface == "tcp://0.0.0.0"
    assert got.connect_address("zmr.worker_uri") == "tcp://127.0.0.1:5556"
    with pytest.raises(ConfigError, match="allow_insecure_bind: true"):
        got.refuse_exposure()


def test_a_sink_port_causes_a_warning(tmp_path: Path) -> None:
    warnings = load({SET_VARIABLE: "zmr.sink_port=5559"}, [tmp_path])[1]
    assert ["zmr.sink_port" in warning for warning in warnings] == [True]


def test_exposed_sockets_can_be_allowed(tmp_path: Path) -> None:
    got = config(tmp_path, {"ZARKOV_BSON_BIND_ADDRESS": "tcp://*:6543", "ZARKOV_ALLOW_INSECURE_BIND": "yes"})
    got.refuse_exposure()
    config(tmp_path).refuse_exposure()


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"ZARKOV_FOO": "1"}, ["unknown key foo = '1'", "environment variable ZARKOV_FOO", "Known keys: home"]),
        ({SET_VARIABLE: "web_prot=1"}, ["unknown key web_prot", "did you mean web_port", "--set web_prot=1"]),
        ({SET_VARIABLE: "web_port"}, ["--set web_port is not allowed: use key=value"]),
        ({SET_VARIABLE: "web_port.x=1"}, ["web_port.x"]),
        ({"ZARKOV_WEB_PORT": "99999"}, ["web_port: '99999' is not allowed", "ZARKOV_WEB_PORT", "65535"]),
        ({"ZARKOV_ZMR__ENGINE": "x"}, ["zmr.engine: 'x'", "'zmq' or 'inline'"]),
        ({"ZARKOV_ZMR": "x"}, ["zmr: 'x'", "mapping of zmr.* keys"]),
        ({"ZARKOV_JOURNAL_SYNC": "interval:0"}, ["journal_sync: 'interval:0'", "interval:MS"]),
        ({"ZARKOV_JOURNAL_SYNC": "interval:60001"}, ["journal_sync: 'interval:60001'", "1 to 60000"]),
        ({"ZARKOV_JOURNAL_MAX_BYTES": "64KiB"}, ["journal_max_bytes: 65536", "1048576"]),
        ({"ZARKOV_BSON_BIND_ADDRESS": "localhost:1"}, ["bson_bind_address: 'localhost:1'", "tcp://HOST:PORT"]),
        ({"ZARKOV_BSON_BIND_ADDRESS": "tcp://h:70000"}, ["tcp://h:70000", "tcp://HOST:PORT"]),
        ({"ZARKOV_TIME_ZONE": "Mars/Base"}, ["time_zone: 'Mars/Base'", "Europe/Berlin"]),
        ({"ZARKOV_TIME_ZONE": "localtime"}, ["time_zone: 'localtime'", "ZARKOV_TIME_ZONE", "such as UTC"]),
        ({"ZARKOV_TIME_ZONE": "right/Asia/Tokyo"}, ["time_zone: 'right/Asia/Tokyo'", "use Asia/Tokyo"]),
        ({"ZARKOV_MONGO_URI": "localhost"}, ["mongo_uri: 'localhost'", "mongodb://"]),
        ({"ZARKOV_MONGO_DATABASE": "a.b"}, ["mongo_database: 'a.b'"]),
        ({"ZARKOV_JOURNAL_MAX_BYTES": "2 XiB"}, ["journal_max_bytes: '2 XiB'"]),
        ({"ZARKOV_BACKDOOR": "6545"}, ["backdoor: '6545'", "HOST:PORT"]),
        ({"ZARKOV_BACKDOOR": "0.0.0.0:6545"}, ["backdoor: '0.0.0.0:6545'", "loopback"]),
        (
            {"ZARKOV_JOURNAL_SEGMENT_BYTES": "8 MiB", "ZARKOV_JOURNAL_MAX_BYTES": "1 MiB"},
            ["journal_segment_bytes: 8388608", "journal_max_bytes, 1048576"],
        ),
        (
            {"ZARKOV_ZMR__REQ_BIND": "tcp://127.0.0.1:6543"},
            ["zmr.req_bind and bson_bind_address are both tcp://127.0.0.1:6543"],
        ),
    ],
)
def test_a_mistake_is_reported_with_key_value_source_and_allowed_values(
    tmp_path: Path, environ: dict[str, str], words: list[str]
) -> None:
    message = refusal(tmp_path, environ)
    assert [word for word in words if word not in message] == []


def test_a_yaml_boolean_is_not_a_port(tmp_path: Path) -> None:
    assert "web_port: True is not allowed" in refusal(tmp_path, file(tmp_path, "web_port: yes"))


@pytest.mark.parametrize("text", ["1_000", "\u0663", "\uff11\uff12", "0x1F"])
@pytest.mark.parametrize("key", ["web_port", "notify.lag_s", "zmr.map_job_size", "journal_max_bytes"])
def test_a_number_with_other_marks_than_digits_is_refused_with_its_text(key: str, text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(key)) as caught:
        load({SET_VARIABLE: f"{key}={text}"}, [])
    assert text in str(caught.value)


@pytest.mark.parametrize("text", ["nan", "inf", "Infinity"])
def test_a_duration_is_finite(text: str) -> None:
    with pytest.raises(ConfigError, match="lag_s"):
        load({SET_VARIABLE: f"notify.lag_s={text}"}, [])


@pytest.mark.parametrize("text", ["web_port: [", "- 1\n- 2", "web_port: {a: 1}", "zmr: {nope: 1}", "zmr: 3"])
def test_an_invalid_file_is_reported_by_name(tmp_path: Path, text: str) -> None:
    assert "given.yaml" in refusal(tmp_path, file(tmp_path, text))


@pytest.mark.parametrize("text", ["x: 8081\nverbose: true\nx: 2\n", "zmr:\n  x: 1\n  src_port: 1\n  x: 2\n"])
def test_a_duplicate_key_is_reported_with_both_lines(tmp_path: Path, text: str) -> None:
    message = refusal(tmp_path, file(tmp_path, text))
    assert re.search(r"the key x is given twice, first in line [12].* line [34]", message)


def test_a_missing_file_is_reported_by_name(tmp_path: Path) -> None:
    assert "nowhere.yaml" in refusal(tmp_path, {FILE_VARIABLE: str(tmp_path / "nowhere.yaml")})


def test_null_means_the_default(tmp_path: Path) -> None:
    got = config(tmp_path, file(tmp_path, "web_port: null\nzmr: {reduce_count: null}\nmetrics: {}\n"))
    assert got.web_port == 8081
    assert got.zmr.reduce_count == 32
    assert config(tmp_path, {"ZARKOV_WEB_PORT": ""}).web_port == 8081


def test_lists_and_sizes_are_parsed_from_text(tmp_path: Path) -> None:
    got = config(tmp_path, {"ZARKOV_TASK_MODULES": "a.b, c", "ZARKOV_JOURNAL_SEGMENT_BYTES": "2 MiB"})
    assert got.task_modules == ["a.b", "c"]
    assert got.journal_segment_bytes == 2 * 2**20


def test_port_0_is_looked_up_in_the_recorded_addresses(tmp_path: Path) -> None:
    got = config(tmp_path, {"ZARKOV_HOME": str(tmp_path), "ZARKOV_ZMR__REQ_BIND": "tcp://127.0.0.1:0"})
    with pytest.raises(Exception, match=r"zmr\.req_bind has port 0") as caught:
        got.connect_address("zmr.req_uri")
    assert "addresses.json" in str(caught.value)
    got.folder.record_addresses({"zmr.req_bind": "tcp://127.0.0.1:4242"})
    assert got.connect_address("zmr.req_uri") == "tcp://127.0.0.1:4242"


def test_every_key_is_listed_once() -> None:
    keys = list(known_keys())
    assert len(keys) == len(set(keys))
    assert {"home", "zmr.reduce_count", "metrics.port"} <= set(keys)


@pytest.mark.parametrize("key", ["METRICS__HOST", "WEB_HOST"])
def test_what_curve_does_not_encrypt_is_refused_without_a_hint_about_its_keys(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0.* beyond loopback: no key encrypts this: keep it on") as got:
        config(tmp_path, {f"ZARKOV_{key}": "0.0.0.0"}).refuse_exposure()
    assert "curvekeys" not in str(got.value)


def test_a_worker_interface_beyond_loopback_counts_as_exposed(tmp_path: Path) -> None:
    beyond = config(tmp_path, {"ZARKOV_ZMR__WORKER_URI": "tcp://eth0"})
    with pytest.raises(ConfigError, match=r"zmr\.worker_uri = tcp://eth0.* listens beyond loopback.*curvekeys"):
        beyond.refuse_exposure()
    config(tmp_path, {"ZARKOV_ZMR__WORKER_URI": "tcp://127.0.0.1"}).refuse_exposure()
    config(tmp_path, {"ZARKOV_ZMR__WORKER_URI": "tcp://far.example:5556"}).refuse_exposure()


@pytest.mark.parametrize(
    ("key", "text", "items"),
    [
        ("task_modules", '["a","b.c"]', ["a", "b.c"]),
        ("task_modules", ' [ "a" ] ', ["a"]),
        ("task_modules", "a", ["a"]),
        ("task_modules", "a , b.c", ["a", "b.c"]),
        ("cors_origins", '["https://a.example"]', ["https://a.example"]),
        ("allowed_hosts", "[::1], a.example", ["[::1]", "a.example"]),
        ("allowed_hosts", '["[::1]", "a.example"]', ["[::1]", "a.example"]),
        ("trusted_proxies", '["10.0.0.0/8", "::1"]', ["10.0.0.0/8", "::1/128"]),
        ("notify.email", '["ops@example.org"]', ["ops@example.org"]),
        (
            "notify.email",
            "o'brien@example.org, d'arcy.o'hara@example.org",
            ["o'brien@example.org", "d'arcy.o'hara@example.org"],
        ),
    ],
)
def test_a_list_is_read_as_text_with_commas_and_as_json(tmp_path: Path, key: str, text: str, items: list[str]) -> None:
    variable = f"ZARKOV_{key.upper().replace('.', '__')}"
    assert attrgetter(key)(config(tmp_path, {variable: text})) == items
    assert attrgetter(key)(config(tmp_path, {SET_VARIABLE: f"{key}={text}"})) == items


@pytest.mark.parametrize(
    "text",
    [
        *("[a", "[a]", "a]", '["a"', '["a", 1]', '["a", null]', '[["a"]]', "['a']", '{"a": 1}', '"a"', "[,]"),
        *("a,,b", ",", "a,", '["a", ""]', '["a", " "]', pytest.param("[" * 100_000, id="deep")),
    ],
)
@pytest.mark.parametrize("key", ["task_modules", "cors_origins", "allowed_hosts", "trusted_proxies", "notify.email"])
def test_text_that_is_no_list_is_refused_with_both_ways_to_write_one(tmp_path: Path, key: str, text: str) -> None:
    message = refusal(tmp_path, {f"ZARKOV_{key.upper().replace('.', '__')}": text})
    assert f"{key}: " in message and 'use one, two or ["one", "two"]' in message


def test_an_empty_item_of_a_yaml_list_is_refused(tmp_path: Path) -> None:
    assert "task_modules: " in refusal(tmp_path, file(tmp_path, 'task_modules: [a, ""]'))


@pytest.mark.parametrize("name", ["a b", "a-b", "a/b.py", "1a", "a..b", ".a"])
def test_a_task_module_has_the_name_of_a_module(tmp_path: Path, name: str) -> None:
    assert f"{name!r} is not the name of a module" in refusal(tmp_path, {"ZARKOV_TASK_MODULES": name})


def test_these_are_all_the_settings_that_are_lists(tmp_path: Path) -> None:
    environ = {SET_VARIABLE: "trusted_proxies=::1"}
    got = config(tmp_path, environ)
    assert tuple(key for key in known_keys() if isinstance(attrgetter(key)(got), list)) == LISTS


@pytest.mark.parametrize("key", LISTS)
@pytest.mark.parametrize("empty", ["[]", " [ ] "])
def test_a_list_can_be_emptied_by_every_source(tmp_path: Path, key: str, empty: str) -> None:
    value = {"notify.email": "ops@example.org", "trusted_proxies": "10.0.0.9"}.get(key)
    value = value or ("https://one.example" if key == "cors_origins" else "one.example")
    *section, name = key.split(".")
    given = file(tmp_path, f"{section[0]}:\n  {name}: [{value}]\n" if section else f"{name}: [{value}]\n")
    assert attrgetter(key)(config(tmp_path, given)) != []
    variable = f"ZARKOV_{key.upper().replace('.', '__')}"
    assert attrgetter(key)(config(tmp_path, {**given, variable: empty})) == []
    assert attrgetter(key)(config(tmp_path, {**given, SET_VARIABLE: f"{key}={empty}"})) == []


@pytest.mark.parametrize("value", [" ", "  ", "\t"])
def test_a_blank_value_of_an_option_is_refused_and_an_empty_one_is_the_default(value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="its value is blank; use web_host= for the default"):
        load({SET_VARIABLE: f"web_host={value}"}, [tmp_path])
    assert load({SET_VARIABLE: "web_host="}, [tmp_path])[0].web_host == "127.0.0.1"


@pytest.mark.parametrize(
    ("hosts", "web_host", "warned"),
    [("*", "0.0.0.0", True), ("*", "127.0.0.1", False), ("stats.example.org", "0.0.0.0", False)],
)
def test_any_host_name_beyond_loopback_is_warned_of(tmp_path: Path, hosts: str, web_host: str, warned: bool) -> None:
    lines = f"allowed_hosts={hosts}\nweb_host={web_host}\nallow_insecure_bind=true"
    warnings = load({SET_VARIABLE: lines}, [tmp_path])[1]
    assert any("allowed_hosts has *" in warning for warning in warnings) is warned
