"""The activity `import` of the heartbeat example: a worker of the task queue `imports`.

    python3 worker.py http://127.0.0.1:7474 SINK

Each item is a line in the file SINK. After each, the heartbeat tells the next position; the host keeps the latest that
it heard, and an attempt after a crash begins there.
"""

import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../guest-sdk/python"))
from relive_worker import Task, Worker  # noqa: E402

SERVER, SINK = sys.argv[1], sys.argv[2]

worker = Worker(SERVER, task_queue="imports")


@worker.activity("import")
def import_items(task: Task, order: dict) -> dict:
    start = (task.details or {}).get("next", 0)
    for item in range(start, order["items"]):
        time.sleep(order["item_ms"] / 1000)  # the work
        with open(SINK, "a") as sink:
            sink.write(json.dumps({"item": item, "attempt": task.attempt, "from": start}) + "\n")
        task.heartbeat({"next": item + 1})
    return {"items": order["items"], "from": start}


worker.run()
