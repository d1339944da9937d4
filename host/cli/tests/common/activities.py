"""The activities that tests of workers run: `python3 activities.py SERVER DIRECTORY [CONCURRENCY]`.

What each attempt does is a line in DIRECTORY/sink. A file DIRECTORY/gate lets those that wait for it go on.
"""

import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../../guest-sdk/python"))
from relive_worker import ActivityError, Canceled, Defer, Worker  # noqa: E402

SERVER, DIRECTORY = sys.argv[1], sys.argv[2]
LOCK = threading.Lock()

worker = Worker(SERVER, concurrency=int(sys.argv[3]) if len(sys.argv) > 3 else 20)


def note(task, what):
    row = {"what": what, "key": task.idempotency_key, "attempt": task.attempt, "pid": os.getpid(), "token": task.token}
    with LOCK, open(os.path.join(DIRECTORY, "sink"), "a") as sink:
        sink.write(json.dumps(row) + "\n")


def gate():
    return os.path.exists(os.path.join(DIRECTORY, "gate"))


@worker.activity("effect")
def effect(task, input):
    """An effect, and then nothing until the gate is open; beats if it has to."""
    note(task, "effect")
    while not gate():
        if task.heartbeat_timeout is not None:
            task.heartbeat()
        time.sleep(0.005)
    return {"attempt": task.attempt}


@worker.activity("beats")
def beats(task, input):
    """Beats until it is told to stop."""
    note(task, "begun")
    position = 0
    try:
        while True:
            position += 1
            task.heartbeat({"position": position})
            time.sleep(0.005)
    except Canceled as canceled:
        note(task, "gone" if canceled.gone else "canceled")
        raise


@worker.activity("resumes")
def resumes(task, input):
    """Fails at once after two heartbeats; the second is held back, and must be heard all the same."""
    if task.details is None:
        task.heartbeat({"position": 1})
        task.heartbeat({"position": 2})
        raise KeyError("no luck \ud800")
    return task.details


@worker.activity("declines")
def declines(task, input):
    raise ActivityError("declined", "as told", details={"input": input})


@worker.activity("tries")
def tries(task, input):
    if task.attempt < 3:
        raise ActivityError("not-yet", "again", retryable=True)
    return task.attempt


@worker.activity("gives")
def gives(task, input):
    """Results that the host or JSON does not take."""
    return {"large": "x" * 3_000_000, "nan": float("nan"), "twice": {1: 1, "1": 2}, "object": object()}[input]


@worker.activity("later")
def later(task, input):
    note(task, "deferred")
    raise Defer


worker.run()
