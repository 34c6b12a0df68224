"""Turn the calls of a task into its outputs and one engine job for each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bson.min_key import MinKey
from pymongo.database import Database

from aggregates.definition.definition import Definition, check_filter, output_name
from aggregates.exceptions import TaskError
from aggregates.run.watermark import IdRange
from aggregates.task import BasicCall, MapReduceCall, Task, TaskContext, bind
from aggregates.task_code.code_version import source_versions, task_version
from aggregates.task_code.registry import allowed_module, function_name, resolve
from mapreduce.job.spec import ANY_LABEL, JobSpec, Output, Source
from mapreduce.task_error import described, is_of_task


@dataclass(frozen=True)
class PlannedSource:
    """A map, and the conditions on its input in addition to the run's range."""

    map_name: str
    query: Mapping[str, Any]
    fields: tuple[str, ...] | None


@dataclass(frozen=True)
class PlannedJob:
    """A job that fills one output, or several with `start_xmr`, through one shuffle."""

    outputs: Mapping[str, str]  # name below "zagg." by label; {"": name} for plain map-reduce
    sources: tuple[PlannedSource, ...]
    reduce_name: str
    finalize_name: str | None
    params: Mapping[str, Any]
    associative: bool
    on_error: str

    def spec(self, uid: str, database: str, generation: int, span: IdRange, code: Mapping[str, str]) -> JobSpec:
        """Return the engine job for `span` into `generation`. A range start of None means from the first document."""
        kind = "reduce" if self.associative else "merge"
        begin = MinKey() if span.start is None else span.start
        return JobSpec(
            job_id=uid,
            database=database,
            sources=tuple(self._source(source, span) for source in self.sources),
            outputs={
                label: Output(f"zgen.{name}.{generation}", kind)  # type: ignore[arg-type]
                for label, name in self.outputs.items()
            },
            reduce_name=self.reduce_name,
            finalize_name=self.finalize_name,
            id_min=span.start if span.bounded else None,
            id_max=span.through if span.bounded else None,
            params=self.params,
            associative=self.associative,
            on_error=self.on_error,  # type: ignore[arg-type]
            stamp=(begin, span.through),
            code=code,
        )

    def _source(self, source: PlannedSource, span: IdRange) -> Source:
        return Source(
            input_names=span.collections,
            map_name=source.map_name,
            query={**source.query, **span.narrowing} if span.narrowing else source.query,
            fields=source.fields,
            id_key=span.id_key,
            database=span.database,
        )


@dataclass(frozen=True)
class Plan:
    """All the work of a run, apart from its range."""

    task: Task
    jobs: tuple[PlannedJob, ...]
    basic: tuple[Mapping[str, Any], ...]  # {func_name, args, kwargs}
    code: Mapping[str, str]  # sha256 of the file by module; what workers compare
    version: str  # of the code that the run uses; other code in the same files does not count
    tasks: Mapping[str, Task]  # by output: the task that fills it, a subtask if the task delegates

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for job in self.jobs for name in job.outputs.values()))

    @property
    def associative(self) -> bool:
        """Return True if increments are possible."""
        return all(job.associative for job in self.jobs)

    def specs(self, uid: str, database: str, generation: int, span: IdRange) -> list[JobSpec]:
        """Return one engine job per planned job, with ids derived from `uid`."""
        return [
            job.spec(f"{uid}.{number}", database, generation, span, self.code) for number, job in enumerate(self.jobs)
        ]


class Planner:
    """The `socket` of a task: records its calls, and rejects at once what cannot be run."""

    def __init__(self, definition: Definition, modules: Sequence[str]) -> None:
        self._definition = definition
        self._modules = tuple(modules)
        self._calls: list[MapReduceCall] = []
        self.tasks: dict[str, Task] = {}  # by output: the first task that fills it
        self._basic: list[Mapping[str, Any]] = []

    def record(self, call: MapReduceCall | BasicCall) -> None:
        """Record one call. Raise `TaskError` for a function that workers could not find."""
        if isinstance(call, BasicCall):
            name = function_name(call.func, self._modules)
            self._basic.append({"func_name": name, "args": list(call.args), "kwargs": dict(call.kwargs)})
        else:
            self._calls.append(call)

    def jobs(self) -> tuple[PlannedJob, ...]:
        """Return the jobs, with calls for the same output joined. Raise `TaskError` if they contradict each other."""
        joined: dict[tuple[str, ...], PlannedJob] = {}
        owner: dict[str, tuple[str, ...]] = {}
        for call in self._calls:
            job = self._job(call)
            key = tuple(job.outputs.values())
            for output in key:
                self.tasks.setdefault(output, call.task)
                if owner.setdefault(output, key) != key:
                    raise TaskError(f"output zagg.{output} is filled by two jobs that differ in their other outputs")
            joined[key] = _join(joined[key], job) if key in joined else job
        return tuple(joined.values())

    @property
    def basic(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(self._basic)

    def _job(self, call: MapReduceCall) -> PlannedJob:
        cls = type(call.task)
        names = [function_name(f, self._modules) if f else None for f in (call.map, call.reduce, call.finalize)]
        assert names[0] is not None
        assert names[1] is not None
        query = dict(self._definition.filter)
        if call.filter:
            own = check_filter({k: v for k, v in call.filter.items() if k != self._definition.id_key})
            query = {"$and": [query, own]} if query else own
        return PlannedJob(
            outputs=self._outputs(call),
            sources=(PlannedSource(names[0], query, tuple(cls.fields) if cls.fields is not None else None),),
            reduce_name=names[1],
            finalize_name=names[2],
            params=dict(call.task._given),
            associative=bool(cls.associative),
            on_error=self._definition.on_error or cls.on_error,
        )

    def _outputs(self, call: MapReduceCall) -> dict[str, str]:
        if call.collection is not None:
            return {"": output_name(call.collection)}
        prefix = call.prefix or f"{self._definition.output}."
        labels = type(call.task).outputs
        if not labels:
            output_name(f"{prefix}x")
            return {ANY_LABEL: f"{prefix}*"}
        return {label: output_name(f"{call.prefix}{label.removeprefix('zagg.')}") for label in labels}


def _join(one: PlannedJob, other: PlannedJob) -> PlannedJob:
    name = next(iter(one.outputs.values()))
    for what in ("reduce_name", "finalize_name", "params", "associative", "on_error"):
        if getattr(one, what) != getattr(other, what):
            raise TaskError(
                f"output zagg.{name} is filled by two jobs that differ in {what} "
                f"({getattr(one, what)!r} and {getattr(other, what)!r}): jobs of one output share all but their map"
            )
    return replace(one, sources=one.sources + other.sources)


def make_plan(
    definition: Definition,
    modules: Sequence[str],
    database: Database[dict[str, Any]],
    query: Mapping[str, Any],
    full: bool,
) -> Plan:
    """Ask the task for its jobs. `query` is what it sees as `self.query`.

    Raise `TaskError` if the task cannot be found, fails, or describes something that cannot be run.
    """
    cls = resolve(definition.task_name, modules)
    context = TaskContext(db=database, query=query, output=definition.output, full=full)
    planner = Planner(definition, modules)
    try:
        task = bind(cls(**definition.params), context, definition.params)
        task.run(planner, full)
    except TaskError:
        raise
    except BaseException as error:
        if not is_of_task(error):
            raise
        raise TaskError(f"task {definition.task_name} fails to start its jobs: {described(error)}") from error
    jobs = planner.jobs()
    if not jobs:
        raise TaskError(f"task {definition.task_name} starts no job: call start_mr or start_xmr in _start_jobs")
    module = allowed_module(definition.task_name, modules)
    roots = [(module, definition.task_name.removeprefix(f"{module}.").partition(".")[0])]
    for job in jobs:
        named = (job.reduce_name, job.finalize_name, *(source.map_name for source in job.sources))
        roots += [_root(name) for name in named if name]
    return Plan(task, jobs, planner.basic, source_versions(roots), task_version(roots), planner.tasks)


def _root(function: str) -> tuple[str, str]:
    module, _, qualname = function.partition(":")
    return module, qualname.partition(".")[0]
