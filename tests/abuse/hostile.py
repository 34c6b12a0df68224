"""Run one attack in a process of its own, until standard input ends: `python -m tests.abuse.hostile NAME < TARGETS`.

The first line of standard input are the targets. Each step is counted on standard output. The process is nice, because
a hostile client has a machine of its own.
"""

from __future__ import annotations

import os
import sys
import threading

from tests.abuse import socket_attacks, web_attacks
from tests.abuse.targets import Targets

ATTACKS = {**socket_attacks.ATTACKS, **web_attacks.ATTACKS}
_NICENESS = 19


def main(name: str) -> int:
    os.nice(_NICENESS)
    attack, pause_s = ATTACKS[name]
    targets = Targets.from_text(sys.stdin.readline())
    over = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    steps = attack(targets)
    while not over.is_set():
        next(steps)
        print(".", end="", flush=True)
        over.wait(pause_s)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stdout.flush()
    os._exit(code)  # a socket that holds unsent messages would keep the process
