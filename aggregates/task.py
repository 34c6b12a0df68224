"""What people write: `Task`, its map and reduce, and the calls that start jobs. Imports no Django.

A task only describes. `start_mr` and its sisters record jobs with the object passed as `socket`; the aggregation
service decides the range of events, records the run and hands the jobs to the map-reduce engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from aggregates.exceptions import TaskError

if TYPE_CHECKING:
    from pymongo.collection import Collection
    from pymongo.database import Database

    from aggregates.period import Span

Document = Mapping[str, Any]
Function = Callable[..., Any]
T = TypeVar("T", bound="type[Task]")

REGISTERED = "__zarkov_registered__"


@dataclass(frozen=True)
class MapReduceCall:
    """One call of `start_mr` or `start_xmr`, as the task made it."""

    task: Task
    collection: str | None  # output of start_mr, with or without "zagg."; None for start_xmr
    prefix: str  # start_xmr: put before each label, "" when there is none
    filter: Document | None
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
    """What a task gets as `socket`."""

    def record(self, call: MapReduceCall | BasicCall) -> None:
        """Take down one job. Raises `TaskError` when it cannot be run."""


@dataclass(frozen=True)
class TaskContext:
    """What a task knows of the run that it is asked to describe."""

    db: Database[dict[str, Any]]  # the event database
    query: Document  # selects the run's events in a collection of events
    output: str  # name of the output below "zagg.", as the AggDef says
    full: bool  # whether the run reads from the beginning


class Task:
    """Base of all tasks. One object describes one run; other objects, made in workers, map and reduce.

    The constructor gets the AggDef's parameters as keyword arguments, here and in workers. `map`, `reduce` and
    `finalize` must depend on nothing else but their arguments and these parameters, or a recount finds differences.
    """

    fields: ClassVar[Sequence[str] | None] = None
    """Paths that `map` reads, such as `context.project`; None hands it whole events. `_id` always comes along."""

    associative: ClassVar[bool] = True
    """False says that `reduce` cannot take its own results; every run is then a full one."""

    on_error: ClassVar[str] = "fail"
    """`fail` stops the run at an event on which `map` raises; `skip` passes it over and keeps its id."""

    outputs: ClassVar[Sequence[str]] = ()
    """What a map given to `start_xmr` yields as `c`; each is an output of its own."""

    _context: TaskContext | None = None

    def __init__(self, **params: Any) -> None:
        self.params = params

    # Written by people

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[Any]:
        """Yield `(key, value)` for each event; timestamps are timezone-aware UTC."""
        raise TaskError(f"{type(self).__module__}.{type(self).__qualname__} has no map(self, events)")

    def reduce(self, key: Any, values: Iterable[Any]) -> Any:
        """One value for all of a key's; gets its own results again unless `associative` is False."""
        raise TaskError(f"{type(self).__module__}.{type(self).__qualname__} has no reduce(self, key, values)")

    def finalize(self, key: Any, value: Any) -> Any:
        """What readers see instead of the reduced value, which is kept beside it; the default is not called."""
        return value

    def period(self, key: Any) -> Span | None:
        """The span of event timestamps that `key` stands for, as a pair of aware datetimes; None if it has none.

        A task that says it can be rebuilt for a range of time. `aggregates.period` has functions for usual keys.
        """
        return None

    # Called by the service

    def run(self, socket: JobRecorder, full: bool = False) -> None:
        """Describe the jobs of a run; may be overridden."""
        self._start_jobs(socket, full)

    def _start_jobs(self, socket: JobRecorder, full: bool) -> None:
        """Describe the jobs; may be overridden. Without that, one job with the task's own map and reduce."""
        finalize = self.finalize if type(self).finalize is not Task.finalize else None
        self.start_mr(socket, self._bound().output, full, map=self.map, reduce=self.reduce, finalize=finalize)

    # For use in `_start_jobs`

    @property
    def db(self) -> Database[dict[str, Any]]:
        """The event database; `self.db.zagg.name` is an output."""
        return self._bound().db

    @property
    def query(self) -> Document:
        """Selects the run's events: the range of ids, and the AggDef's filter."""
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
        """Map and reduce the run's events into `collection`, which lies below `zagg.`.

        `filter` narrows `self.query` further. Functions go by name, `module:qualname`, to the workers: they are methods
        of the task or stand in a module that may hold tasks. Calls for the same collection are one job, and share
        their reduce.
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

        What `c` may be is said by `outputs`; with `name`, output `c` is `zagg.<name>.<c>`, else `zagg.<c>`.
        """
        prefix = f"{name.removeprefix('zagg.')}." if name else ""
        socket.record(MapReduceCall(self, None, prefix, filter, map or self.map, reduce or self.reduce, finalize))

    def start_basic_job(self, socket: JobRecorder, func: Function, *args: Any, **kwargs: Any) -> None:
        """Have a worker call `func(*args, **kwargs)` when the run's results are in: at least once, maybe again."""
        socket.record(BasicCall(func, args, kwargs))

    def subtask(self, cls: type[Task], **kwargs: Any) -> Task:
        """A task of another class for the same run; call its `run(socket, full)`."""
        return bind(cls(**kwargs), self._bound(), kwargs)

    def _bound(self) -> TaskContext:
        if self._context is None:
            raise TaskError(
                f"{type(self).__qualname__} is used outside a run: db, query and start_* work in run and _start_jobs"
            )
        return self._context

    _given: Mapping[str, Any] = {}


def bind(task: Task, context: TaskContext, params: Mapping[str, Any]) -> Task:
    """Make `task` ready to describe the run; `params` are what its constructor got."""
    task._context = context
    task._given = dict(params)
    return task


def register(cls: T) -> T:
    """Say that this class is a task. In a module that may hold tasks, subclasses of `Task` are found without it."""
    if not (isinstance(cls, type) and issubclass(cls, Task)):
        raise TaskError(f"@register is for subclasses of Task, {cls!r} is none")
    setattr(cls, REGISTERED, cls)
    return cls


def has_period(cls: type[Task]) -> bool:
    """Whether the task says which span of time a key stands for."""
    return cls.period is not Task.period
