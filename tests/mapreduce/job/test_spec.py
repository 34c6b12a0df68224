from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce import exceptions
from mapreduce.exceptions import CodeChangedError, MapReduceError, SpecError, from_document
from mapreduce.job.request import COMMANDS
from mapreduce.job.spec import END_STATES, RUNNING_STATES, UNKNOWN, JobSpec, JobStatus, Output
from mapreduce.job.spec_check import checked_spec
from tests.support.mapreduce.jobs import SPEC
from zarkov_site.config.config import REPOSITORY

DOCS = REPOSITORY / "docs" / "mapreduce.md"


def test_a_spec_is_the_same_after_a_round_trip_through_its_document() -> None:
    assert JobSpec.from_document(bson.decode(bson.encode(SPEC.to_document()))) == SPEC


@given(st.one_of(st.none(), st.integers(0, 10**12)), st.booleans(), st.dictionaries(st.text("ab"), st.integers(0, 9)))
def test_any_spec_is_the_same_after_a_round_trip(low: Any, associative: bool, params: Any) -> None:
    spec = replace(SPEC, id_min=low, associative=associative, params=params)
    again = JobSpec.from_document(bson.decode(bson.encode(spec.to_document())))
    assert (again, again.digest()) == (spec, spec.digest())


def test_the_digest_depends_on_the_job_but_not_on_its_id_or_code() -> None:
    assert replace(SPEC, job_id="other", code={}).digest() == SPEC.digest()
    assert replace(SPEC, id_max=5).digest() != SPEC.digest()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"outputs": {}}, "name at least one"),
        ({"outputs": {"": Output("zagg.x"), "a": Output("zagg.y")}}, "only output"),
        ({"outputs": {"a b": Output("zagg.y")}}, "label 'a b'"),
        ({"outputs": {"*": Output("zagg.y")}}, "star"),
        ({"outputs": {"": Output("zagg.")}}, "'zagg.'"),
        ({"outputs": {"": Output("event.1")}}, "below zagg. or zgen."),
        ({"associative": False}, "associative"),
        ({"reduce_name": None}, "reduce_name"),
        ({"stamp": None}, "stamp"),
        ({"sources": ()}, "input_names"),
        ({"reduce_name": "no colon"}, "module:name"),
        ({"reduce_count": 0}, "reduce_count 0"),
    ],
)
def test_a_spec_that_no_engine_could_run_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=re.escape(says)):
        checked_spec(replace(SPEC, **changes))


def test_the_id_range_is_the_default_stamp() -> None:
    assert checked_spec(replace(SPEC, stamp=None, id_min=3, id_max=9)).stamp == (3, 9)


def test_required_code_that_is_missing_is_refused_by_name() -> None:
    assert SPEC.with_code({"m.n": "ab", "o": "cd"}).code == {"m.n": "ab", "o": "cd"}
    with pytest.raises(CodeChangedError, match=r"m\.n"):
        SPEC.with_code({"m.n": "xy"})


def test_a_status_is_the_same_after_a_round_trip_through_its_document() -> None:
    status = JobStatus("j", "error", {"code": "x", "message": "y", "details": {}}, "tb", {"splits": 1}, [1])
    assert JobStatus.from_document(status.to_document()) == status
    assert status.ended
    assert not JobStatus("j", "map").ended


def test_errors_keep_their_type_over_the_wire() -> None:
    for kind in MapReduceError.__subclasses__():
        error = kind("message", {"key": 1})
        back = from_document(error.to_document())
        assert (type(back), str(back), back.details) == (kind, "message", {"key": 1})


def test_every_code_state_and_command_is_documented() -> None:
    text = DOCS.read_text()
    codes = {
        kind.code for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, MapReduceError)
    }
    for word in {*codes, *RUNNING_STATES, *END_STATES, UNKNOWN, *COMMANDS}:
        assert f"`{word}`" in text, word
