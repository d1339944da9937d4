"""The activity `charge` of the polyglot example: a worker of the task queue `payments`.

    python3 worker.py http://127.0.0.1:7474 DIRECTORY

Each charge is a file in the directory, named by the idempotency key, so that an attempt that is a repetition finds it.
"""

import hashlib
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../guest-sdk/python"))
from relive_worker import ActivityError, Task, Worker  # noqa: E402

SERVER, CHARGES = sys.argv[1], sys.argv[2]
MOST_CENTS = 100_000

worker = Worker(SERVER, task_queue="payments")


@worker.activity("charge")
def charge(task: Task, order: dict) -> str:
    if order["cents"] > MOST_CENTS:
        raise ActivityError("limit", f"{order['cents']} cents are more than the card allows")
    number = "ch-" + hashlib.sha256(task.idempotency_key.encode()).hexdigest()[:12]
    try:
        with open(os.path.join(CHARGES, number), "x") as file:
            file.write(f"{task.idempotency_key} {order['cents']}\n")
    except FileExistsError:
        pass  # an earlier attempt has charged already
    return number


worker.run()
