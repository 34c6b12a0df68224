"""Define `Task`, the class that people subclass: map, reduce, and the calls that start jobs. Imports no Django.

A task only describes. `start_mr`, `start_xmr` and `start_basic_job` record jobs with the object passed as `socket`; the
aggregation service decides the range of events, records the run and submits the jobs to the map-reduce engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from aggregates.exceptions import TaskError

if TYPE_CHECKING:
    from pymongo.collection import Collection
    from pymongo.database import Database

    from aggregates.period import Pair

Document = Mapping[str, Any]
Function = Callable[..., Any]
T = TypeVar("T", bound="type[Task]")

REGISTERED = "__zarkov_registered__"


@dataclass(frozen=True)
class MapReduceCall:
    """One call of `start_mr` or `start_xmr`, as the task made it."""

    task: Task
    collection: str | None  # output of start_mr, with or without "zagg."; None for start_xmr
    prefix: str  # start_xmr: prefix of each label; "" for none
    filter: Document | None  # in addition to that of the run; None for none
    map: Function | str
    reduce: Function | str
    finalize: Function | str | None


@dataclass(frozen=True)
class BasicCall:
    """One call of `start_basic_job`."""

    func: Function
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class JobRecorder(Protocol):
    """The `socket` of a task."""

    def record(self, call: MapReduceCall | BasicCall) -> None:
        """Record one job. Raise `TaskError` if it cannot be run."""


@dataclass(frozen=True)
class TaskContext:
    """The run that a task is asked to describe."""

    db: Database[dict[str, Any]]  # the event database
    query: Document  # selects the run's events in a collection of events
    output: str  # name of the output below "zagg.", as the AggDef says
    full: bool  # the run reads from the first event on


class Task:
    """Base class of all tasks. One instance describes one run; other instances, created in workers, map and reduce.

    The constructor gets the AggDef's parameters as keyword arguments, here and in workers. `map`, `reduce` and
    `finalize` must depend only on their arguments and these parameters, or a recount finds differences.
    """

    fields: ClassVar[Sequence[str] | None] = None
    """Paths that `map` reads, such as `context.project`; None means whole events. `_id` is always included."""

    associative: ClassVar[bool] = True
    """False if `reduce` cannot take its own results; every run is then a full run."""

    on_error: ClassVar[str] = "fail"
    """`fail` stops the run at an event on which `map` raises; `skip` skips the event and keeps its id."""

    zone: str | tzinfo | None = None
    """Zone whose clock the keys name, such as `Europe/Berlin`; None means that of the spans of `period`, else UTC."""

    outputs: ClassVar[Sequence[str]] = ()
    """Values of `c` that a map given to `start_xmr` yields; each is a separate output."""

    _context: TaskContext | None = None

    def __init__(self, **params: Any) -> None:
        self.params = params

    # Written by task authors

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[Any]:
        """Yield `(key, value)` for each event; timestamps are timezone-aware UTC."""
        raise TaskError(f"{type(self).__module__}.{type(self).__qualname__} has no map(self, events)")

    def reduce(self, key: Any, values: Iterable[Any]) -> Any:
        """Return one value for all values of a key; also gets its own results, unless `associative` is False."""
        raise TaskError(f"{type(self).__module__}.{type(self).__qualname__} has no reduce(self, key, values)")

    def finalize(self, key: Any, value: Any) -> Any:
        """Return the value that readers see; the reduced value is kept in `state`. The default is never called."""
        return value

    def period(self, key: Any) -> Pair | None:
        """Return the period of `key` as a pair of timezone-aware datetimes, or None if it has none.

        The first is inside the period and the second is not: a day ends with the next midnight, not a second before.

        Tasks that define it can be rebuilt for a range of time. `aggregates.period` has functions for common keys.
        """
        return None

    # Called by the service

    def run(self, socket: JobRecorder, full: bool = False) -> None:
        """Describe the jobs of a run; may be overridden."""
        self._start_jobs(socket, full)

    def _start_jobs(self, socket: JobRecorder, full: bool) -> None:
        """Describe the jobs; may be overridden. By default, one job with the task's own map and reduce."""
        finalize = self.finalize if type(self).finalize is not Task.finalize else None
        self.start_mr(socket, self._bound().output, full, map=self.map, reduce=self.reduce, finalize=finalize)

    # For use in `_start_jobs`

    @property
    def db(self) -> Database[dict[str, Any]]:
        """Return the event database; `self.db.zagg.name` is an output."""
        return self._bound().db

    @property
    def query(self) -> Document:
        """Return the filter for the run's events: its range of ids, and the AggDef's filter."""
        return self._bound().query

    def start_mr(  # the signature of 2011
        self,
        socket: JobRecorder,
        collection: Collection[dict[str, Any]] | str,
        full: bool,
        filter: Document | None = None,
        map: Function | None = None,
        reduce: Function | None = None,
        map_name: str | None = None,
        reduce_name: str | None = None,
        finalize: Function | None = None,
    ) -> None:
        """Map and reduce the run's events into `collection`, whose name starts with `zagg.` or is completed with it.

        `filter` narrows `self.query` further. Workers find functions by name, `module:qualname`, so they must be
        methods of the task or defined in a module that may hold tasks. Calls for the same collection become one job
        and must have the same reduce.
        """
        name = collection if isinstance(collection, str) else collection.name
        call = MapReduceCall(
            self, name, "", filter, map_name or map or self.map, reduce_name or reduce or self.reduce, finalize
        )
        socket.record(call)

    def start_xmr(
        self,
        socket: JobRecorder,
        full: bool,
        filter: Document | None = None,
        map: Function | None = None,
        reduce: Function | None = None,
        finalize: Function | None = None,
        name: str | None = None,
    ) -> None:
        """Fill several outputs in one pass: `map` yields `{"c": output, "k": key, "v": value}`.

        `outputs` lists the possible values of `c`; output `c` is `zagg.<name>.<c>`, or `zagg.<c>` without `name`.
        """
        prefix = f"{name.removeprefix('zagg.')}." if name else ""
        socket.record(MapReduceCall(self, None, prefix, filter, map or self.map, reduce or self.reduce, finalize))

    def start_basic_job(self, socket: JobRecorder, func: Function, *args: Any, **kwargs: Any) -> None:
        """Have a worker call `func(*args, **kwargs)` after the run's results are written, at least once."""
        socket.record(BasicCall(func, args, kwargs))

    def subtask(self, cls: type[Task], **kwargs: Any) -> Task:
        """Return a task of another class for the same run; call its `run(socket, full)`."""
        return bind(cls(**kwargs), self._bound(), kwargs)

    def _bound(self) -> TaskContext:
        if self._context is None:
            raise TaskError(
                f"{type(self).__qualname__} is used outside a run: db, query and start_* work in run and _start_jobs"
            )
        return self._context

    _given: Mapping[str, Any] = {}


def bind(task: Task, context: TaskContext, params: Mapping[str, Any]) -> Task:
    """Prepare `task` to describe the run; `params` are its constructor arguments."""
    task._context = context
    task._given = dict(params)
    return task


def register(cls: T) -> T:
    """Mark a class as a task. Subclasses of `Task` defined in a module that may hold tasks are found without it."""
    if not (isinstance(cls, type) and issubclass(cls, Task)):
        raise TaskError(f"@register is for subclasses of Task, and {cls!r} is not one")
    setattr(cls, REGISTERED, cls)
    return cls


def has_period(cls: type[Task]) -> bool:
    return cls.period is not Task.period
