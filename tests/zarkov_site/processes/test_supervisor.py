"""Child processes: started, watched, started again, stopped without a rest."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from zarkov_site.config.home import HomeFolder
from zarkov_site.processes.supervisor import Part, ProcessFailedError, RestartPolicy, Supervisor


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def supervisor(home: HomeFolder, tmp_path: Path, output: io.StringIO) -> Iterator[Supervisor]:
    made = Supervisor(home, os.environ, cwd=tmp_path, verbose=False, output=output)
    yield made
    made.stop()


def python(name: str, code: str) -> Part:
    return Part(name, (sys.executable, "-u", "-c", code), holds_tasks=True)


def until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    supervisor.wait(condition, 20, "the test's condition")


SLEEP = "import time; print('awake'); time.sleep(100)"
IGNORES = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
DEAF = f"import signal; {IGNORES}; {SLEEP}"


def test_pauses_double_and_a_calm_life_starts_over() -> None:
    policy = RestartPolicy(first_s=1, most_s=5, calm_s=10, deaths=5)
    assert [policy.died(0.1) for _ in range(4)] == [1, 2, 4, 5]
    assert policy.died(11) == 1
    assert [policy.died(0.1) for _ in range(4)] == [2, 4, 5, None]


def test_a_killed_part_is_named_with_its_cause_and_started_again(supervisor: Supervisor, output: io.StringIO) -> None:
    supervisor.start(python("sleeper", SLEEP))
    until(supervisor, lambda: bool(supervisor.running()))
    first = supervisor.running()["sleeper"]
    os.kill(first, signal.SIGKILL)
    until(supervisor, lambda: supervisor.running().get("sleeper", first) != first)
    shown = output.getvalue()
    assert "sleeper ended with signal SIGKILL" in shown
    assert "started again in 0.5 s" in shown


def test_a_hopeless_part_is_named_with_its_last_words(supervisor: Supervisor) -> None:
    part = python("broken", "import sys; sys.exit('the port is taken')")
    supervisor.start(part)
    child = supervisor._children["broken"]
    child.policy = RestartPolicy(first_s=0.01, deaths=2)
    with pytest.raises(ProcessFailedError) as caught:
        until(supervisor, lambda: False)
    message = str(caught.value)
    assert "broken ended with exit code 1" in message
    assert "2 times in a row" in message
    assert "the port is taken" in message
    assert "broken.log" in message
    assert "try it alone" in message


def test_stop_ends_parts_that_listen_and_parts_that_do_not(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zarkov_site.processes.supervisor.TERMINATE_WAIT_S", 0.5)
    supervisor.start(python("kind", SLEEP))
    supervisor.start(python("deaf", DEAF))
    supervisor.start(python("parent", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])"))
    apart = f"subprocess.run([sys.executable, '-c', {DEAF!r}], start_new_session=True)"
    supervisor.start(python("hung", f"import signal, subprocess, sys; {IGNORES}; {apart}"))
    logs = [supervisor._folder.log / f"{name}.log" for name in ("kind", "deaf", "parent", "hung")]
    until(supervisor, lambda: all(log.exists() and "awake" in log.read_text() for log in logs))
    found = [psutil.Process(pid) for pid in supervisor.running().values()]
    found += [child for process in found for child in process.children(recursive=True)]
    assert len(found) == 6
    before = time.monotonic()
    supervisor.stop(last="kind")
    assert time.monotonic() - before < 5
    _, alive = psutil.wait_procs(found, 1)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    supervisor.stop()


SAYS_WHEN = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: end()); print('awake')"


def test_parts_end_one_after_another_in_the_order_that_they_say(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zarkov_site.processes.supervisor.ALONE_S", 20)
    monkeypatch.setattr("zarkov_site.processes.supervisor.TERMINATE_WAIT_S", 60)
    ended = tmp_path / "ended"
    for turn, name in ((2, "last"), (0, "first"), (1, "between"), (0, "with it")):
        end = f"def end(): time.sleep(0.3); open({str(ended)!r}, 'a').write('{name},'); sys.exit()"
        supervisor.start(replace(python(name, f"{end}\n{SAYS_WHEN}; time.sleep(100)"), ends=turn))
    logs = [supervisor._folder.log / f"{name}.log" for name in ("first", "with it", "between", "last")]
    until(supervisor, lambda: all(log.exists() and "awake" in log.read_text() for log in logs))
    supervisor.stop()
    names = ended.read_text().split(",")
    assert sorted(names[:2]) == ["first", "with it"]
    assert names[2:] == ["between", "last", ""]


def test_warnings_are_shown_and_all_is_logged(supervisor: Supervisor, output: io.StringIO) -> None:
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


def test_parts_with_tasks_start_anew_at_once(supervisor: Supervisor) -> None:
    supervisor.start(python("holder", SLEEP))
    supervisor.start(Part("other", (sys.executable, "-c", SLEEP)))
    until(supervisor, lambda: len(supervisor.running()) == 2)
    before = supervisor.running()
    supervisor.restart_task_holders()
    until(supervisor, lambda: supervisor.running().get("holder", before["holder"]) != before["holder"])
    assert supervisor.running()["other"] == before["other"]
    assert supervisor._children["holder"].policy.seen == 0


def test_a_part_that_can_reload_is_told_to_and_keeps_its_process(supervisor: Supervisor) -> None:
    code = f"import signal; signal.signal(signal.SIGHUP, lambda *_: print('anew')); print('set'); {SLEEP}"
    supervisor.start(Part("web", (sys.executable, "-u", "-c", code), holds_tasks=True, reload=signal.SIGHUP))
    log = supervisor._folder.log / "web.log"
    until(supervisor, lambda: log.exists() and "awake" in log.read_text())
    before = supervisor.running()
    supervisor.restart_task_holders()
    until(supervisor, lambda: "anew" in log.read_text())
    assert supervisor.running() == before


def test_logs_do_not_grow_without_bound(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarkov_site.processes.supervisor.LOG_BYTES", 1_000)
    supervisor.start(python("talker", f"[print('y' * 99) for _ in range(50)]; {SLEEP}"))
    log = supervisor._folder.log / "talker.log"
    until(supervisor, lambda: "awake" in supervisor._children["talker"].lines)
    assert log.with_suffix(".log.1").stat().st_size < 1_200
    assert not log.exists() or log.stat().st_size < 1_200
