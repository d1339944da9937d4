"""What `scripts/api-fuzz` does to the fuzzer's requests before they leave.

Most random names name nothing, so most requests would end at the first 404: names that are well-formed are replaced
by names that exist, three times of four. Streams and long polls do not end by themselves: they are made short. All of
it is a function of the request, so that a seed gives the same requests again.
"""

import re
import zlib

import schemathesis

KNOWN = {
    "namespace": ["default"],
    "id": ["done", "waiting", "order-17"],
    "channel": ["decision"],
    "key": ["approval"],
}
WELL_FORMED = re.compile(r"[\w .-]+")
LONGEST_WAIT_MS = 20
# Workflows that are deployed, with an input that each takes; `echo` takes any.
STARTS = [
    ("echo", None),
    ("hello", {"name": "Ada"}),
    ("approval", {"subject": "a", "requested_by": "b", "approver": "c"}),
]


def chosen(name, value):
    """A name that exists, or none."""
    if name not in KNOWN or not isinstance(value, str) or not WELL_FORMED.fullmatch(value):
        return None
    number = zlib.crc32(f"{name}={value}".encode())
    return KNOWN[name][number // 4 % len(KNOWN[name])] if number % 4 else None


def shortened(name, value):
    """The value of a query's parameter, if it has to be another one."""
    text = str(value).lower()
    if name == "follow" and text == "true":
        return "false"
    if name == "wait_ms" and text.isdigit() and int(text) > LONGEST_WAIT_MS:
        return LONGEST_WAIT_MS
    return None


def start(body):
    """A start of something that is there, three times of four; the rest of the body stays as it is."""
    number = zlib.crc32(repr(sorted(body.items(), key=str)).encode())
    if number % 4 and isinstance(body.get("workflow"), str):
        workflow, accepted = STARTS[number // 4 % len(STARTS)]
        body["workflow"] = workflow
        if accepted is not None and number // 16 % 4:
            body["input"] = accepted
        if isinstance(body.get("workflow_id"), str) and number // 64 % 4:
            body["workflow_id"] = KNOWN["id"][number // 256 % len(KNOWN["id"])]


@schemathesis.hook
def before_call(context, case, kwargs):
    for parameters, other in ((case.path_parameters, chosen), (case.query, shortened)):
        for name, value in list((parameters or {}).items()):
            replacement = other(name, value)
            if replacement is not None:
                parameters[name] = replacement
    if case.path.endswith("/executions") and isinstance(case.body, dict):
        start(case.body)
    # A poll waits half a minute if it does not say how long.
    if case.path.endswith("/poll") and isinstance(case.body, dict) and isinstance(case.body.get("wait_ms", 0), int):
        case.body["wait_ms"] = min(case.body.get("wait_ms", LONGEST_WAIT_MS), LONGEST_WAIT_MS)
