"""The key time of an output: what its task says, and what runs record."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dateutil import tz

from aggregates import period
from aggregates.keys import key_time
from aggregates.keys.key_time import KeyTime, tell
from aggregates.run.context import RunContext, _keys_of_parts
from aggregates.run.full import full_run, rebuild
from aggregates.run.incremental import accept_change
from aggregates.task import Task
from aggregates.web.series import output_position
from ingest.log_limit import LogLimit
from tests.support.aggregates.definitions import define, values
from tests.support.aggregates.event_source import NOON, Producer, event
from tests.support.aggregates.zones import Broken, Fixed, OfPytz, Summer, of_file

DAY = timedelta(days=1)
BERLIN = ZoneInfo("Europe/Berlin")


def of(read: Any, *keys: Any, zone: Any = None) -> tuple[str, Any]:
    """Return zone and step that a task with this `period` says for these keys."""

    class Read(Task):
        def period(self, key: Any) -> Any:
            return read(key)

    Read.zone = zone
    told = tell(Read(), keys)
    return told.zone, told.step


@pytest.mark.parametrize(
    ("read", "key", "zone", "step"),
    [
        (period.minute, "2011-07-01T13:05", "UTC", "minute"),
        (lambda key: period.minute(key, count=5), "2011-07-01T13:05", "UTC", 300),
        (lambda key: period.minute(key, count=60), "2011-07-01T13:00", "UTC", "hour"),
        (lambda key: period.hour(key, count=24), "2011-07-01T00:00", "UTC", "day"),
        (lambda key: period.hour(key, BERLIN), "2011-07-01T13:00", "Europe/Berlin", "hour"),
        (lambda key: period.hour(key, "Asia/Tokyo", count=6), "2011-07-01T12:00", "Asia/Tokyo", 21_600),
        (lambda key: period.day(key, "Europe/Berlin"), "2011-07-01", "Europe/Berlin", "day"),
        (period.week, "2011-06-27", "UTC", "week"),
        (period.month, "2011-07", "UTC", "month"),
        (period.year, "2011", "UTC", "year"),
    ],
)
def test_a_span_says_zone_and_length(read: Any, key: str, zone: str, step: Any) -> None:
    assert of(read, key) == (zone, step)


@pytest.mark.parametrize(
    ("length", "step"),
    [
        (timedelta(seconds=1), "second"),
        (timedelta(minutes=1), "minute"),
        (timedelta(minutes=5), 300),
        (timedelta(hours=1), "hour"),
        (timedelta(hours=23), "day"),
        (DAY, "day"),
        (7 * DAY + timedelta(hours=1), "week"),
        (28 * DAY, 2_419_200),
        (30 * DAY, 2_592_000),
        (365 * DAY, 31_536_000),
        (10 * DAY, 864_000),
    ],
)
def test_a_plain_pair_says_its_length(length: timedelta, step: Any) -> None:
    assert of(lambda key: (NOON, NOON + length), "k") == ("UTC", step)


def months_later(first: datetime, months: int) -> datetime:
    number = first.year * 12 + first.month - 1 + months
    return first.replace(year=number // 12, month=number % 12 + 1)


@pytest.mark.parametrize("zone", [UTC, BERLIN, ZoneInfo("Asia/Tokyo")])
@pytest.mark.parametrize("asked", [1, 2, 24])
@pytest.mark.parametrize(
    ("months", "step"), [(1, "month"), (2, "P2M"), (3, "P3M"), (6, "P6M"), (12, "year"), (24, "P2Y"), (120, "P10Y")]
)
def test_plain_pairs_of_months_are_months_in_any_number(months: int, step: str, asked: int, zone: Any) -> None:
    first = datetime(2015, 1, 1, tzinfo=zone)
    starts = [months_later(first, n * months) for n in range(asked)]
    pairs = {number: (start, months_later(start, months)) for number, start in enumerate(starts)}
    assert of(pairs.get, *pairs)[1] == step


@pytest.mark.parametrize("months", [1, 3, 6, 12])
def test_plain_pairs_in_utc_may_be_months_of_another_zone(months: int) -> None:
    starts = [months_later(datetime(2015, 1, 1, tzinfo=BERLIN), n * months) for n in range(25)]
    pairs = dict(enumerate((one.astimezone(UTC), two.astimezone(UTC)) for one, two in itertools.pairwise(starts)))
    assert of(pairs.get, *pairs)[1] == {1: "month", 3: "P3M", 6: "P6M", 12: "year"}[months]


@pytest.mark.parametrize("days", [1, 7, 14, 28, 30, 31, 90, 91, 182, 365, 366, 700])
@pytest.mark.parametrize("asked", [2, 24])
def test_plain_pairs_of_days_have_a_fixed_length(days: int, asked: int) -> None:
    starts = [datetime(2015, 1, 15, tzinfo=UTC) + n * days * DAY for n in range(asked)]
    pairs = {number: (start, start + days * DAY) for number, start in enumerate(starts)}
    assert of(pairs.get, *pairs)[1] == {1: "day", 7: "week"}.get(days, days * 86_400)


def test_a_doubled_hour_of_plain_pairs_is_no_length_of_its_own() -> None:
    pairs = {n: (NOON + n * DAY, NOON + n * DAY + timedelta(hours=1 + (n == 50))) for n in range(100)}

    class Read(Task):
        def period(self, key: Any) -> Any:
            return pairs[key]

    assert tell(Read(), pairs) == KeyTime("UTC", "hour", 100)


def test_the_lengths_that_other_keys_say_are_kept_beside_that_of_most() -> None:
    class Read(Task):
        def period(self, key: str) -> Any:
            return period.hour(key) if "T" in key else period.day(key) if key.count("-") == 2 else period.year(key)

    told = tell(
        Read(), ["2011-07-01T13:00", "2011-07-01T14:00", "2011", "2011-07-01", "2011-07-02", "2011-07-01T15:00"]
    )
    assert told == KeyTime("UTC", "hour", 6, ("day", "year"))
    assert KeyTime.from_document(told.to_document()) == told


@pytest.mark.parametrize("step", [0, -5, True, 1.5, "P0M", "P1W", "fortnight", [], None])
def test_a_recorded_step_of_another_version_says_nothing(step: Any) -> None:
    assert KeyTime.from_document({"zone": "UTC", "step": step, "others": [step, "P3M"]}) == KeyTime(others=("P3M",))


def test_the_zone_of_a_plain_pair_is_that_of_the_task_else_its_own_else_utc() -> None:
    local = datetime(2011, 7, 1, tzinfo=BERLIN)
    assert of(lambda key: (NOON, NOON + DAY), "k", zone="Asia/Tokyo") == ("Asia/Tokyo", "day")
    assert of(lambda key: (local, local + DAY), "k") == ("Europe/Berlin", "day")
    assert of(lambda key: (local, local + DAY), "k", zone=ZoneInfo("Asia/Tokyo")) == ("Asia/Tokyo", "day")
    assert of(lambda key: (NOON, NOON + DAY), "k") == ("UTC", "day")
    assert of(lambda key: (NOON, NOON + DAY), "k", zone="Mars/Base") == ("UTC", "day")


@pytest.mark.parametrize("make", ["pair", "span", "task"])
@pytest.mark.parametrize(
    ("zone", "name"),
    [
        (tz.gettz("Europe/Berlin"), "Europe/Berlin"),
        (OfPytz("Europe/Berlin"), "Europe/Berlin"),
        (tz.tzutc(), "UTC"),
        (tz.tzoffset(None, 7200), "+02:00"),
        (Fixed(timedelta(minutes=53, seconds=28)), "+00:53:28"),
        (of_file("Europe/Berlin"), None),
        (Summer(), None),
        (tz.tzstr("CET-1CEST"), None),
        (Broken(), None),
    ],
)
def test_any_tzinfo_says_its_zone_or_that_it_cannot_and_what_to_do(
    zone: Any, name: str | None, make: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_time, "_warnings", LogLimit(every_s=60))
    local = datetime(2011, 7, 1, tzinfo=zone)

    def read(key: Any) -> Any:
        if make == "task":
            return NOON, NOON + DAY
        return (local, local + DAY) if make == "pair" else period.day("2011-07-01", zone)

    told = [of(read, "k", "l", zone=zone if make == "task" else None) for _ in range(3)]
    step = None if isinstance(zone, Broken) and make != "task" else "day"
    assert told == [(name or "UTC", step)] * 3
    warnings = [record.getMessage() for record in caplog.records]
    if name is None and step:
        (warning,) = warnings
        assert 'zone = "Europe/Berlin"' in warning and type(zone).__name__ in warning and "task=" in warning
    else:
        assert not warnings


def test_what_most_keys_say_is_taken_and_odd_keys_say_nothing() -> None:
    def read(key: str) -> Any:
        if key == "odd":
            return period.minute("1900-01-01T00:00", "Asia/Tokyo")
        return None if key == "total" else period.hour(key, "Europe/Berlin")

    hours = [f"2011-07-01T{hour:02}:00" for hour in range(3)]
    assert of(read, "odd", *hours) == of(read, "total", "x", "", 5, *hours, "odd") == ("Europe/Berlin", "hour")
    assert of(read, "total", "x") == ("UTC", None)


def test_a_zone_that_is_unknown_here_is_read_as_utc() -> None:
    for zone in ("Mars/Base", None, 5, ""):
        assert KeyTime.from_document({"output": "x", "code": "y", "zone": zone, "step": "day"}) == KeyTime("UTC", "day")
    for zone in ("UTC", "Europe/Berlin", "+05:30", "-00:44:30"):
        assert KeyTime.from_document(KeyTime(zone, 300, 9).to_document()) == KeyTime(zone, 300, 9)


def key_times(run_context: RunContext, name: str) -> dict[str, KeyTime]:
    position = run_context.position_store.get(name)
    return {entry["output"]: KeyTime.from_document(entry) for entry in position.key_times}


@pytest.mark.parametrize(
    ("task", "zone", "step"),
    [
        ("ByHourInBerlin", "Europe/Berlin", "hour"),
        ("CountByDay", "UTC", "day"),
        ("PlainPairs", "America/New_York", "day"),
        ("PlainPairsOfDateutil", "Europe/Berlin", "hour"),
        ("PlainPairsWithoutName", "UTC", "hour"),
        ("OfZone", "Asia/Tokyo", None),
        ("EventsOfNoZone", "UTC", None),
        ("TotalByType", "UTC", "day"),
    ],
)
def test_a_run_records_how_keys_are_read(
    task: str, zone: str, step: Any, run, run_context: RunContext, producer: Producer
) -> None:
    task = "Scaled" if task == "EventsOfNoZone" else task
    producer.send(*(event(at=NOON + n * DAY) for n in range(3)))
    run(define(task))
    told = key_times(run_context, task.lower())[task.lower()]
    assert (told.zone, told.step) == (zone, step)


def test_each_output_is_read_as_the_task_says_that_fills_it(run, run_context: RunContext, producer: Producer) -> None:
    producer.send(event())
    run(define("HourAndDay"))
    told = key_times(run_context, "hours")
    assert {name: (each.zone, each.step) for name, each in told.items()} == {
        "hours": ("Europe/Berlin", "hour"),
        "days": ("UTC", "day"),
    }


def test_an_output_of_an_older_version_is_completed_by_a_run_that_finds_nothing_to_do(
    run, run_context: RunContext, producer: Producer
) -> None:
    definition = define("ByHourInBerlin")
    producer.send(event())
    run(definition)
    run_context.database["agg.position"].update_one({"_id": "byhourinberlin"}, {"$unset": {"key_times": 1}})
    assert run(definition).state == "nothing"
    assert key_times(run_context, "byhourinberlin")["byhourinberlin"].zone == "Europe/Berlin"


def test_one_odd_first_key_does_not_decide_for_ever(run, run_context: RunContext, producer: Producer) -> None:
    definition = define("CountByDay")
    producer.send(event(at=datetime(1, 1, 1, tzinfo=UTC)))
    run(definition)
    assert values(run_context.database, "countbyday") == {"p/1-01-01": 1}
    assert key_times(run_context, "countbyday")["countbyday"].step is None
    producer.send(event())
    run(definition)
    assert key_times(run_context, "countbyday")["countbyday"].step == "day"


@pytest.mark.parametrize(("task", "parameter"), [("OfZoneInParams", "zone"), ("DaysOfZoneInParams", "tz")])
def test_a_zone_of_the_parameters_is_read_as_soon_as_the_change_is_accepted(
    task: str, parameter: str, run, run_context: RunContext, producer: Producer
) -> None:
    name = task.lower()
    before, after = define(task), define(task, params={parameter: "Europe/Berlin"})
    producer.send(*(event(at=NOON + n * DAY) for n in range(30)))
    run(before)
    assert run(after).state == "nothing"
    producer.send(event())
    assert run(after).state == "blocked"
    assert key_times(run_context, name)[name].zone == "UTC"  # as long as the results are those of the old definition
    accept_change(run_context, after)
    assert key_times(run_context, name)[name].zone == "Europe/Berlin"
    assert run(after).state == "complete"
    assert key_times(run_context, name)[name].zone == "Europe/Berlin"


def test_a_zone_that_was_recorded_without_its_definition_is_read_until_a_run_asks_again(
    run, run_context: RunContext, producer: Producer
) -> None:
    definition = define("OfZoneInParams", params={"zone": "Europe/Berlin"})
    name = definition.output
    producer.send(event())
    run(definition)
    (entry,) = run_context.position_store.get(name).key_times
    older = {each: value for each, value in entry.items() if each != "definition"} | {"zone": "Asia/Tokyo"}
    run_context.database["agg.position"].update_one({"_id": name}, {"$set": {"key_times": [older]}})
    position = output_position.find(run_context.database, name)
    assert output_position.key_time(position, name).zone == "Asia/Tokyo"
    producer.send(event())
    assert run(definition).state == "complete"
    assert run_context.position_store.get(name).key_times == (entry,)


def test_results_of_an_older_version_get_a_key_time_although_a_change_is_due(
    run, run_context: RunContext, producer: Producer
) -> None:
    producer.send(event())
    run(define("OfZoneInParams"))
    run_context.database["agg.position"].update_one({"_id": "ofzoneinparams"}, {"$unset": {"key_times": 1}})
    producer.send(event())
    assert run(define("OfZoneInParams", params={"zone": "Europe/Berlin"})).state == "blocked"
    assert key_times(run_context, "ofzoneinparams").keys() == {"ofzoneinparams"}


def test_an_accepted_change_of_half_written_results_leaves_their_key_time(
    run, run_context: RunContext, producer: Producer
) -> None:
    producer.send(event())
    run(define("OfZoneInParams"))
    run_context.database["agg.position"].update_one({"_id": "ofzoneinparams"}, {"$set": {"blocked": True}})
    accept_change(run_context, define("OfZoneInParams", params={"zone": "Europe/Berlin"}))
    assert key_times(run_context, "ofzoneinparams")["ofzoneinparams"].zone == "UTC"


def test_full_runs_and_rebuilds_ask_again(run, run_context: RunContext, producer: Producer) -> None:
    definition = define("CountByDay")
    producer.send(event())
    run(definition)
    wrong = {"key_times": [{"output": "countbyday", "code": "x", "zone": "Asia/Tokyo", "step": "hour", "asked": 99}]}
    for again in (full_run, lambda *of: rebuild(*of, NOON, NOON + DAY)):
        run_context.database["agg.position"].update_one({"_id": "countbyday"}, {"$set": wrong})
        again(run_context, definition)
        assert key_times(run_context, "countbyday") == {"countbyday": KeyTime("UTC", "day", 1)}


@pytest.mark.parametrize("hours", [5, 400])
def test_one_output_records_all_lengths_that_its_keys_say(
    hours: int, run, run_context: RunContext, producer: Producer
) -> None:
    producer.send(*(event(at=NOON + timedelta(hours=n)) for n in range(hours)))
    run(define("HourAndDayKeys"))
    told = key_times(run_context, "houranddaykeys")["houranddaykeys"]
    assert (told.step, told.others) == ("hour", ("day",))


def test_each_output_of_a_pattern_has_a_record_of_its_own(run, run_context: RunContext, producer: Producer) -> None:
    producer.send(*(event(at=NOON + timedelta(hours=n)) for n in range(60)))
    definition = define("HourAndDayOutputs", "multi")
    run(definition)
    told = key_times(run_context, "multi.*")
    assert {name: (each.step, each.others) for name, each in told.items()} == {
        "multi.*": ("hour", ("day",)),
        "multi.a": ("hour", ()),
        "multi.b.x": ("day", ()),
    }
    position = output_position.find(run_context.database, "multi.b.x")
    assert output_position.key_time(position, "multi.b.x").step == "day"
    assert output_position.key_time(position, "multi.c").step == "hour"
    producer.send(event(at=NOON - DAY))
    run(definition)
    assert key_times(run_context, "multi.*").keys() == told.keys()
    full_run(run_context, definition)
    assert {name: each.step for name, each in key_times(run_context, "multi.*").items()} == {
        name: each.step for name, each in told.items()
    }


def test_kinds_of_keys_that_are_rare_are_asked_by_their_first_part(run_context: RunContext) -> None:
    keys = [f"hour/{NOON + timedelta(hours=n):%Y-%m-%dT%H:00}" for n in range(5000)]
    keys += ["2011-07-01", "2012-07-01", "date/2011-07-01", "year/2011", "1", "x"]
    collection = run_context.database["zgen.parts.1"]
    collection.insert_many({"_id": key} for key in [*keys, NOON, 5])
    asked = list(_keys_of_parts(collection))
    assert {"1", "2011-07-01", "date/2011-07-01", "year/2011", "x"} <= set(asked)
    assert len(asked) < 20
