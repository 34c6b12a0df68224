"""Child processes are started, watched, restarted, and stopped without leaving any behind."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from honcho.process import Process

from tests.support.waiting import WITHIN_S, eventually
from zarkov_site.config.home import HomeFolder
from zarkov_site.processes.restart_decision import RestartPolicy
from zarkov_site.processes.supervisor import Part, PartFailedError, Supervisor


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def supervisor(home: HomeFolder, tmp_path: Path, output: io.StringIO) -> Iterator[Supervisor]:
    made = Supervisor(home, os.environ, cwd=tmp_path, verbose=False, output=output)
    yield made
    made.stop()


def python(name: str, code: str) -> Part:
    return Part(name, (sys.executable, "-u", "-c", code), runs_tasks=True)


def until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    supervisor.wait(condition, 20, "the test's condition")


SLEEP = "import time; print('awake'); time.sleep(100)"
IGNORE_SIGTERM = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
IGNORING_SIGTERM = f"import signal; {IGNORE_SIGTERM}; {SLEEP}"


def test_pauses_double_and_a_long_run_resets_them() -> None:
    policy = RestartPolicy(first_pause_s=1, longest_pause_s=5, stable_after_s=10, max_deaths=5)
    assert [policy.record_death(0.1) for _ in range(4)] == [1, 2, 4, 5]
    assert policy.record_death(11) == 1
    assert [policy.record_death(0.1) for _ in range(4)] == [2, 4, 5, None]


def test_a_killed_part_is_reported_with_its_cause_and_restarted(supervisor: Supervisor, output: io.StringIO) -> None:
    supervisor.start(python("sleeper", SLEEP))
    until(supervisor, lambda: bool(supervisor.running()))
    first = supervisor.running()["sleeper"]
    os.kill(first, signal.SIGKILL)
    until(supervisor, lambda: supervisor.running().get("sleeper", first) != first)
    shown = output.getvalue()
    assert "sleeper ended with signal SIGKILL" in shown
    assert "restarting it in 0.5 s" in shown


def test_a_part_that_keeps_failing_is_reported_with_its_last_lines(supervisor: Supervisor) -> None:
    part = python("broken", "import sys; sys.exit('the port is taken')")
    supervisor.start(part)
    child = supervisor._children["broken"]
    child.policy = RestartPolicy(first_pause_s=0.01, max_deaths=2)
    with pytest.raises(PartFailedError) as caught:
        until(supervisor, lambda: False)
    message = str(caught.value)
    assert "broken ended with exit code 1" in message
    assert "2 times in a row" in message
    assert "the port is taken" in message
    assert "broken.log" in message
    assert "run it alone" in message


def test_stop_ends_parts_that_handle_sigterm_and_parts_that_ignore_it(supervisor: Supervisor) -> None:
    supervisor.start(python("obedient", SLEEP))
    supervisor.start(replace(python("ignoring", IGNORING_SIGTERM), stop_within_s=0.5))
    supervisor.start(python("parent", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])"))
    apart = f"subprocess.run([sys.executable, '-c', {IGNORING_SIGTERM!r}], start_new_session=True)"
    hung = python("hung", f"import signal, subprocess, sys; {IGNORE_SIGTERM}; {apart}")
    supervisor.start(replace(hung, stop_within_s=0.5))
    logs = [supervisor._folder.log / f"{name}.log" for name in ("obedient", "ignoring", "parent", "hung")]
    until(supervisor, lambda: all(log.exists() and "awake" in log.read_text() for log in logs))
    found = [psutil.Process(pid) for pid in supervisor.running().values()]
    found += [child for process in found for child in process.children(recursive=True)]
    assert len(found) == 6
    before = time.monotonic()
    supervisor.stop(last="obedient")
    assert time.monotonic() - before < Part("any", ()).stop_within_s
    _, alive = psutil.wait_procs(found, WITHIN_S)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    supervisor.stop()


CALL_END_ON_SIGTERM = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: end()); print('awake')"


def test_a_suspended_part_and_what_it_started_apart_end_as_others_do(
    supervisor: Supervisor, output: io.StringIO, tmp_path: Path
) -> None:
    """One that is suspended would not notice SIGTERM, and be killed in the midst of its work."""
    ended = tmp_path / "ended"
    own = f"signal.signal(signal.SIGTERM, lambda *_: (open({str(ended)!r}, 'w').close(), sys.exit()))"
    quiet = "start_new_session=True, stdout=-3, stderr=-3"
    apart = f"subprocess.Popen([sys.executable, '-c', {SLEEP!r}], {quiet})"
    supervisor.start(python("frozen", f"import signal, subprocess, sys; {own}; {apart}; {SLEEP}"))
    log = supervisor._folder.log / "frozen.log"
    until(supervisor, lambda: log.exists() and "awake" in log.read_text())
    (pid,) = supervisor.running().values()
    family = [psutil.Process(pid), *psutil.Process(pid).children()]
    for process in family:
        process.suspend()
    eventually(lambda: all(process.status() == psutil.STATUS_STOPPED for process in family))
    supervisor.stop()
    assert ended.exists()
    assert "is killed" not in output.getvalue()
    eventually(lambda: family[1].status() != psutil.STATUS_STOPPED)
    family[1].kill()


@pytest.mark.parametrize("answers", [True, False])
def test_without_a_store_parts_are_told_to_stop_without_waiting_for_those_that_cannot(
    supervisor: Supervisor, tmp_path: Path, answers: bool
) -> None:
    """A part that waits for MongoDB ends late; those that stop after it need not be as late."""
    told = tmp_path / "told"
    for turn in range(5):
        say = f"def end(): open({str(told)!r}, 'a').write('{turn}{{:.2f}} '.format(time.monotonic()))"
        part = replace(python(str(turn), f"{say}\n{CALL_END_ON_SIGTERM}; time.sleep(100)"), stop_order=turn)
        supervisor.start(replace(part, stop_within_s=6.0))
    until(supervisor, lambda: all((supervisor._folder.log / f"{turn}.log").exists() for turn in range(5)))

    supervisor.stop(store_answers=lambda: answers)
    turns = told.read_text().split()
    assert [turn[0] for turn in turns] == list("01234")
    first, last = (float(turn[1:]) for turn in (turns[0], turns[-1]))
    assert (last - first >= 5.0) is answers


def test_parts_stop_in_their_stop_order(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zarkov_site.processes.supervisor.FIRST_PARTS_WAIT_S", 20)
    ended = tmp_path / "ended"
    for turn, name in ((2, "last"), (0, "first"), (1, "between"), (0, "with it")):
        end = f"def end(): time.sleep(0.3); open({str(ended)!r}, 'a').write('{name},'); sys.exit()"
        supervisor.start(replace(python(name, f"{end}\n{CALL_END_ON_SIGTERM}; time.sleep(100)"), stop_order=turn))
    logs = [supervisor._folder.log / f"{name}.log" for name in ("first", "with it", "between", "last")]
    until(supervisor, lambda: all(log.exists() and "awake" in log.read_text() for log in logs))
    supervisor.stop()
    names = ended.read_text().split(",")
    assert sorted(names[:2]) == ["first", "with it"]
    assert names[2:] == ["between", "last", ""]


def test_a_part_whose_process_id_arrives_during_the_stop_is_stopped(
    supervisor: Supervisor, output: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping, started = threading.Event(), list[Process]()

    class LateProcess(Process):
        def run(self, *arguments: object) -> None:
            started.append(self)
            stopping.wait(150)
            super().run(*arguments)

    def collect_ends(self: Supervisor, timeout_s: float) -> None:
        original(self, timeout_s)
        stopping.set()

    original = Supervisor._collect_ends
    monkeypatch.setattr("zarkov_site.processes.supervisor.Process", LateProcess)
    monkeypatch.setattr(Supervisor, "_collect_ends", collect_ends)
    supervisor.start(python("sleeper", SLEEP))
    supervisor.start(replace(python("later", SLEEP), stop_order=1))
    supervisor.stop()
    assert "did not end" not in output.getvalue()
    assert [process._child.poll() for process in started] == [-signal.SIGTERM] * 2


def test_warnings_are_shown_and_everything_is_logged(supervisor: Supervisor, output: io.StringIO) -> None:
    lines = [
        "2026-01-01 00:00:00,000 INFO zarkov: nothing much",
        "2026-01-01 00:00:00,000 WARNING zarkov: look here",
        "and here",
        "2026-01-01 00:00:00,000 INFO zarkov: fine again",
    ]
    supervisor.start(python("talker", f"print({chr(10).join(lines)!r}); {SLEEP}"))
    log = supervisor._folder.log / "talker.log"
    until(supervisor, lambda: log.exists() and "awake" in log.read_text())
    shown = output.getvalue()
    assert "look here" in shown
    assert "and here" in shown
    assert "nothing much" not in shown
    assert "fine again" not in shown
    assert all(line in log.read_text() for line in lines)


def test_parts_with_tasks_are_restarted_at_once(supervisor: Supervisor) -> None:
    supervisor.start(python("holder", SLEEP))
    supervisor.start(Part("other", (sys.executable, "-c", SLEEP)))
    until(supervisor, lambda: len(supervisor.running()) == 2)
    before = supervisor.running()
    supervisor.reload_task_code()
    until(supervisor, lambda: supervisor.running().get("holder", before["holder"]) != before["holder"])
    assert supervisor.running()["other"] == before["other"]
    assert supervisor._children["holder"].policy.deaths_in_a_row == 0


def test_a_part_with_a_reload_signal_reloads_in_the_same_process(supervisor: Supervisor) -> None:
    code = f"import signal; signal.signal(signal.SIGHUP, lambda *_: print('reloaded')); print('set'); {SLEEP}"
    supervisor.start(Part("web", (sys.executable, "-u", "-c", code), runs_tasks=True, reload_signal=signal.SIGHUP))
    log = supervisor._folder.log / "web.log"
    until(supervisor, lambda: log.exists() and "awake" in log.read_text())
    before = supervisor.running()
    supervisor.reload_task_code()
    until(supervisor, lambda: "reloaded" in log.read_text())
    assert supervisor.running() == before


def test_a_reload_of_a_part_that_has_just_ended_is_left_out(supervisor: Supervisor) -> None:
    part = Part("web", (sys.executable, "-u", "-c", SLEEP), runs_tasks=True, reload_signal=signal.SIGHUP)
    supervisor.start(part)
    until(supervisor, lambda: bool(supervisor.running()))
    ended = supervisor.running()["web"]
    os.killpg(ended, signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(ended))
    supervisor.reload_task_code()
    until(supervisor, lambda: supervisor.running().get("web", ended) != ended)


def test_a_part_that_hangs_is_killed_after_its_own_time(supervisor: Supervisor, output: io.StringIO) -> None:
    supervisor.start(replace(python("hung", IGNORING_SIGTERM), stop_within_s=0.5))
    slow = "def end(): time.sleep(2); print('done'); sys.exit()"
    supervisor.start(python("slow", f"{slow}\n{CALL_END_ON_SIGTERM}; time.sleep(100)"))
    logs = {name: supervisor._folder.log / f"{name}.log" for name in ("hung", "slow")}
    until(supervisor, lambda: all(log.exists() and "awake" in log.read_text() for log in logs.values()))
    supervisor.stop()
    assert "hung did not end within 0.5 s and is killed" in output.getvalue()
    assert "done" in logs["slow"].read_text()


def test_log_files_are_bounded(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarkov_site.processes.supervisor.LOG_BYTES", 1_000)
    supervisor.start(python("talker", f"[print('y' * 99) for _ in range(50)]; {SLEEP}"))
    log = supervisor._folder.log / "talker.log"
    until(supervisor, lambda: "awake" in supervisor._children["talker"].last_lines)
    assert log.with_suffix(".log.1").stat().st_size < 1_200
    assert not log.exists() or log.stat().st_size < 1_200


def test_a_part_that_cannot_be_started_counts_as_ended_and_is_restarted(
    supervisor: Supervisor, output: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, failures = Process.run, []

    def run(self: Process, *args: object) -> None:
        if not failures:
            failures.append(self.name)
            raise BlockingIOError(11, "Resource temporarily unavailable")
        sound(self, *args)

    monkeypatch.setattr(Process, "run", run)
    supervisor.start(python("sleeper", SLEEP))
    until(supervisor, lambda: bool(supervisor.running()))
    assert "cannot be run: [Errno 11] Resource temporarily unavailable" in output.getvalue()


def test_a_log_that_cannot_be_written_ends_nothing(
    supervisor: Supervisor, home: HomeFolder, output: io.StringIO
) -> None:
    (home.log / "talker.log").mkdir()
    supervisor.start(python("talker", f"print('x ' * 9); {SLEEP}"))
    until(supervisor, lambda: bool(supervisor._children["talker"].last_lines))
    assert supervisor.running()
