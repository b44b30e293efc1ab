"""Grading on the workers of a Dask scheduler: the same tasks, in batches, each graded by a process of ours over there.

A task of Dask only starts ``course_utils.commands.grade.worker``, speaks with it through pipes, and returns small
records: nothing is graded inside Dask's own process. Files are on storage that all machines share. A worker that dies
takes its batch with it, and Dask gives that batch to another; a record counts once, however often it was made.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import dask.distributed

from course_utils.commands.grade import crew

BATCH = 10  # submissions that share the start of a process
FAILURES = 3  # workers that may die over a batch before it is given up


def graded(job, tasks):
    """The records of tasks, on the machine of a Dask worker. ValueError where that machine cannot grade."""
    folder = str(Path(crew.PACKAGE).parent)
    environment = {**os.environ, "OMP_NUM_THREADS": "1",
                   "PYTHONPATH": os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))}  # fmt: skip
    command = [sys.executable, "-m", "course_utils.commands.grade.worker", str(job)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          env=environment) as process:  # fmt: skip
        try:
            first = json.loads(process.stdout.readline() or b"{}")
            if "refused" in first:
                raise ValueError("\n".join(first["refused"]).strip())
            records = []
            for task in tasks:
                process.stdin.write(json.dumps(task).encode() + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
                if not line:
                    raise RuntimeError("the grader's process ended")  # Dask tries again
                records.append(json.loads(line)["record"])
            return records
        finally:
            process.stdin.close()
            process.kill()


def run(tasks, job, address, stop, begin, done):
    """Grade tasks on the scheduler at ``address`` until all have a record or ``stop`` is set."""
    try:
        client = dask.distributed.Client(address, timeout=20)
    except (OSError, ValueError) as error:
        raise crew.Refused(f"there is no Dask scheduler at {address}: {error}", "") from error
    with client:
        batches = [tasks[i : i + BATCH] for i in range(0, len(tasks), BATCH)]
        futures = {client.submit(graded, str(job), batch, key=f"grade-{batch[0]['key']}", retries=FAILURES, pure=False):
                   batch for batch in batches}  # fmt: skip
        for batch in batches:
            begin(batch[0])
        waiting, missing = set(futures), len(tasks)
        while waiting and not stop.is_set():
            try:
                finished, waiting = dask.distributed.wait(waiting, timeout=1, return_when="FIRST_COMPLETED")
            except (TimeoutError, dask.distributed.TimeoutError):
                continue
            for future in finished:
                batch, error = futures[future], future.exception()
                if isinstance(error, ValueError):
                    client.cancel(list(waiting))
                    raise crew.Refused(str(error), "")
                records = future.result() if error is None else map(crew.lost, batch)
                for task, found in zip(batch, records, strict=True):
                    done(task, found)
                    missing -= 1
        client.cancel(list(waiting))
    return not missing
