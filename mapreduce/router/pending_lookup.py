"""Operations on job records that clients wait for: each client is answered in time, even if MongoDB is slow."""

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
class _Pending:
    envelope: Envelope | None  # None = already answered
    until_s: float  # deadline for the answer, on the router's clock


class PendingLookups:
    """Operations in progress. Each envelope is answered exactly once: by `answer`, or with the error of its operation.

    A late `answer` is still called, with None as its envelope, because its operation has taken effect. Belongs to the
    router's thread.
    """

    def __init__(self, recorder: job_store.JobStore, reply: Reply) -> None:
        self.away: MapReduceError | None = None  # why MongoDB is unavailable, and no operation is started; None = it is
        self._job_store = recorder
        self._reply = reply
        self._pending: list[_Pending] = []

    def ask(self, envelope: Envelope | None, operation: job_store.Operation, answer: Answer, now: float) -> None:
        """Queue `operation` and pass its result to `answer`; if it fails or is refused, reply with the error."""
        if self.away is not None:
            self._refuse(envelope, self.away)
            return
        pending = _Pending(envelope, now + ANSWER_WITHIN_S)
        self._pending.append(pending)

        def found(result: Any) -> None:
            if pending in self._pending:
                self._pending.remove(pending)
            if isinstance(result, MapReduceError):
                self._refuse(pending.envelope, result)
                return
            try:
                answer(pending.envelope, result)
            except Exception as error:
                log.exception("answering a request failed")
                self._refuse(pending.envelope, MapReduceError(described(error)))

        self._job_store.ask(operation, found)

    def _refuse(self, envelope: Envelope | None, error: MapReduceError) -> None:
        self._reply(envelope, {"error": error.to_document()})

    def expire(self, now: float) -> None:
        """Answer clients with an error whose operation takes longer than `ANSWER_WITHIN_S`."""
        for pending in [pending for pending in self._pending if pending.until_s <= now]:
            self._pending.remove(pending)
            late = StoreUnavailableError(
                f"MongoDB has not answered for {ANSWER_WITHIN_S:g} s: the request can still take effect; "
                "repeat it with the same job_id"
            )
            self._refuse(pending.envelope, late)
            pending.envelope = None

    def next_check_s(self, now: float) -> float:
        """Return the seconds until `expire` has something to do."""
        return max(0.0, min((pending.until_s - now for pending in self._pending), default=60.0))
