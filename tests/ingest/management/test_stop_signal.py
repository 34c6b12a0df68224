"""The flag that SIGTERM and SIGINT set."""

from __future__ import annotations

import os
import signal
import threading

from ingest.management.stop_signal import StopSignal, stop_on_signals


def test_a_signal_wakes_up_waiters_and_old_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as stop:
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        assert stop.wait(60)
        timer.join()
    assert stop.is_set()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stop_signal_can_be_set_twice_and_waiting_is_bounded() -> None:
    stop = StopSignal()
    assert not stop.wait(0.01)
    stop.set()
    stop.set()
    assert stop.wait(0)
    stop.close()
