"""Questions to the job records that a client waits for: each is answered in time, whatever MongoDB does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mapreduce.exceptions import MapReduceError, StoreUnavailableError
from mapreduce.router import job_store
from mapreduce.task_error import described

ANSWER_WITHIN_S = 2.0  # clients wait for 3 s

log = logging.getLogger(__name__)

Envelope = tuple[bytes, ...]
Reply = Callable[[Envelope | None, dict[str, Any]], None]
Answer = Callable[[Envelope | None, Any], None]


@dataclass(eq=False)
class _Asked:
    envelope: Envelope | None  # None = it was answered
    until_s: float


class PendingLookups:
    """Belongs to the router's thread. An envelope is answered exactly once: by `answer`, or with why that is late.

    A late `answer` is called all the same, with None as its envelope, because what was asked for has been done.
    """

    def __init__(self, recorder: job_store.JobStore, reply: Reply) -> None:
        self.away: MapReduceError | None = None  # why MongoDB is away; nothing is asked of it meanwhile
        self._recorder = recorder
        self._reply = reply
        self._asked: list[_Asked] = []

    def ask(self, envelope: Envelope | None, operation: job_store.Operation, answer: Answer, now: float) -> None:
        """Have `operation` done, and `answer` told what it found, or why it found nothing (`MapReduceError`)."""
        if self.away is not None:
            answer(envelope, self.away)
            return
        asked = _Asked(envelope, now + ANSWER_WITHIN_S)
        self._asked.append(asked)

        def found(result: Any) -> None:
            if asked in self._asked:
                self._asked.remove(asked)
            try:
                answer(asked.envelope, result)
            except Exception as error:
                log.exception("an answer")
                self._reply(asked.envelope, {"error": MapReduceError(described(error)).to_document()})

        self._recorder.ask(operation, found)

    def expire(self, now: float) -> None:
        """Answer those for whom MongoDB takes too long."""
        for asked in [asked for asked in self._asked if asked.until_s <= now]:
            self._asked.remove(asked)
            late = StoreUnavailableError(
                f"MongoDB has not answered for {ANSWER_WITHIN_S:g} s: what was asked for may be done all the same; "
                "ask again, with the same job_id"
            )
            self._reply(asked.envelope, {"error": late.to_document()})
            asked.envelope = None

    def next_check_s(self, now: float) -> float:
        """Seconds until `expire` has something to do."""
        return max(0.0, min((asked.until_s - now for asked in self._asked), default=60.0))
