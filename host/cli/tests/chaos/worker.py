"""The worker of the chaos test: `python3 worker.py SERVER FILE`. Each attempt of `pay` is a line in FILE."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../../guest-sdk/python"))
from relive_worker import Worker  # noqa: E402

SERVER, FILE = sys.argv[1], sys.argv[2]

worker = Worker(SERVER, concurrency=8)


@worker.activity("pay")
def pay(task, input):
    line = json.dumps({"key": task.idempotency_key, "attempt": task.attempt}) + "\n"
    # One write each, whoever else writes.
    sink = os.open(FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(sink, line.encode())
    os.close(sink)
    return {"paid": input}


worker.run()
