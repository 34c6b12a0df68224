"""Run a command that stops at a failpoint until it is released: `python -m ... POINT COMMAND ...`.

It prints `at POINT` on standard output and waits for a line on standard input. With `kill:POINT` it ends there by
SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "zarkov_site.settings")

from aggregates.run import failpoint


def stop_at(point: str) -> None:
    """Wait, or end this process, the first time `point` is reached."""
    name = point.removeprefix("kill:")
    reached = False

    def reach(found: str) -> None:
        nonlocal reached
        if found != name or reached:
            return
        reached = True
        if name != point:
            os.kill(os.getpid(), signal.SIGKILL)
        print(f"at {name}", flush=True)
        sys.stdin.readline()

    failpoint.hook = reach


def main(point: str, command: list[str]) -> int:
    """Run `manage.py COMMAND`, or `celery ...`, with the hook in place."""
    stop_at(point)
    if command[0] == "celery":
        from celery.__main__ import main as celery

        sys.argv = command
        celery()
        return 0
    from zarkov_site.command_line import main as manage

    return manage(["manage.py", *command])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
