"""The message by which the router assigns a step to a worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mapreduce.scheduler.job_state import JobState
from mapreduce.scheduler.map_output_index import pack_segments
from mapreduce.scheduler.order import AssignStep
from mapreduce.scheduler.step import MAP_STEP, REDUCE_STEP
from mapreduce.wire import message


def task_message(order: AssignStep, spec: bytes, store_identity: Mapping[str, str] | None) -> list[bytes]:
    """Return the frames: what to do, and the map output that the router holds for it.

    `spec` is the encoded description of the job; `store_identity` that of the router's MongoDB, None if not known yet.
    """
    job, step = order.job, order.step
    header: dict[str, Any] = {
        "attempt": order.attempt_id,
        "job": job.job_id,
        "kind": step.kind,
        "index": step.index,
        "spec": spec,
        "say_s": job.steps.timings[step.kind].progress_every_s(),
        "store": store_identity,
        "elsewhere": order.elsewhere,
    }
    payload: list[bytes] = []
    if step.kind == MAP_STEP and job.splits is not None:
        header["split"] = job.splits[step.index].to_document()
        header["partitions"] = job.partitions
    elif step.kind == REDUCE_STEP:
        runs, data = reduce_runs(job, step.index)
        header["runs"] = pack_segments(runs)  # the worker forwards it to an executor without decoding
        payload = [data]
    return message.pack(message.TASK, header, *payload)


def reduce_runs(job: JobState, index: int) -> tuple[list[list[Any]], bytes]:
    """Return the runs of a reduce step, `[label, partition, holder, split, attempt, path, offset, length]`, and bytes.

    `holder` is `[worker id, data_uri]`, or None if the run is the next `length` bytes of the returned bytes.
    """
    wanted = set(job.group(index))
    runs: list[list[Any]] = []
    payload: list[bytes] = []
    for output in job.outputs.values():
        holder = None if output.data is not None else [output.worker_id, output.data_uri]
        for label, partition, offset, length, _ in output.each():
            if (label, partition) in wanted:
                runs.append([label, partition, holder, output.split, output.attempt_id, output.path, offset, length])
                if output.data is not None:
                    payload.append(output.data[offset : offset + length])
    return runs, b"".join(payload)
