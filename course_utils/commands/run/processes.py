"""Ending what a chapter started, wherever it went.

A process group is not enough: a cell can start a process in a session of its own. So every chapter's processes inherit
a mark in their environment, and whoever still carries it after the chapter is found and ended.
"""

import os
import time

import psutil

VARIABLE = "COURSE_RUN_MARK"


def marked(mark, but=()):
    """Living processes that carry `mark`, as psutil.Process, without the process ids in `but`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid not in but and process.environ().get(VARIABLE) == mark:
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        except (psutil.Error, OSError):  # gone in between, or not ours to look at
            continue
    return found


def end_marked(mark, but=None, patience=0.0):
    """End every process that carries `mark`. Returns how those that outlived `patience` seconds were called."""
    but = {os.getpid()} | ({but} if but else set())
    deadline = time.monotonic() + patience
    while (found := marked(mark, but)) and time.monotonic() < deadline:
        time.sleep(0.05)
    names = []
    for _ in range(20):  # what is being ended can still start another
        for process in found:
            try:
                names.append(" ".join(process.cmdline())[:120] or process.name())
                process.kill()
            except psutil.Error:
                continue
        if not found:
            break
        time.sleep(0.05)
        found = marked(mark, but)
    return list(dict.fromkeys(names))
