"""Any mix of workers, of which one is healthy: every job completes, in a bounded time."""

from __future__ import annotations

import dataclasses

from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from mapreduce.exceptions import OutputGoneError, StoreUnavailableError, TaskUnableError, WorkerUnableError
from mapreduce.job.basic_job import checked_call
from mapreduce.job.spec import Output
from mapreduce.scheduler.job_state import MAX_LOST
from mapreduce.scheduler.worker_health import QUARANTINE_AFTER
from tests.support.mapreduce.simulation import CUT_OFF, HEALTHY, SILENT, SLOW, SMALL_JOB, Behaviour, Simulation

PROGRESS, DYING, UNABLE = "in progress for ever", "losing its executors", "without a module"
BAD = {
    "cut off": CUT_OFF,
    "silent": SILENT,
    "slow": SLOW,
    "without space": Behaviour(0.1, lambda: WorkerUnableError("No space left on device")),
    UNABLE: Behaviour(0.0, lambda: TaskUnableError("no module geoip")),
    DYING: Behaviour(dies=lambda give: True),
    "without its output": Behaviour(3.0, lambda: OutputGoneError("gone", {"splits": [0]})),
    "refused at once": Behaviour(0.0, lambda: StoreUnavailableError("not primary")),
    PROGRESS: Behaviour(progress=True),
}
CHANGES = (
    {},
    SMALL_JOB,
    {"outputs": {"": Output("zagg.x", "replace")}, "stamp": None},
)


@settings(max_examples=100, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    bad=st.lists(st.tuples(st.sampled_from(sorted(BAD)), st.integers(1, 3), st.booleans()), min_size=1, max_size=5),
    first=st.integers(0, 5),
    kinds=st.lists(st.integers(0, 3), min_size=1, max_size=4),
)
def test_every_job_completes_beside_any_bad_workers(
    bad: list[tuple[str, int, bool]], first: int, kinds: list[int]
) -> None:
    """The healthy worker joins after the first `first` bad ones, some of which share its host."""
    simulation = Simulation()
    simulation.splits = 4
    names = [behaviour for behaviour, _, _ in bad]
    assume(names.count(UNABLE) < 2)  # what fails so on two hosts is the fault of the task
    assume(names.count(DYING) + names.count("silent") < MAX_LOST)  # so many would be the fault of the step
    for number, (behaviour, slots, together) in enumerate(bad):
        if number == first:
            simulation.join("good:0", HEALTHY)
        name = f"good:{number + 1}" if together and behaviour != UNABLE else f"h{number}:1"
        simulation.join(name, BAD[behaviour], slots=slots)
    if "good:0" not in simulation.behaviours:
        simulation.join("good:0", HEALTHY)
    for number, kind in enumerate(kinds):
        if kind == len(CHANGES):
            if PROGRESS in names:
                continue  # nothing shows that a call which has begun will never end
            job = simulation.harness.add(checked_call("m:f", [], {}, f"j{number}"))
        else:
            job = simulation.harness.add(dataclasses.replace(simulation.spec, job_id=f"j{number}", **CHANGES[kind]))
        # Several that report progress for ever are the worst: further attempts at their steps wait for minutes.
        simulation.finish(job, within_s=300.0 if names.count(PROGRESS) < 2 else 1_500.0)
        assert job.state == "complete", (bad, first, job.error, simulation.given)
    assert simulation.place("good:0").record.failures < QUARANTINE_AFTER
