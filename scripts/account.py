"""Tells what became of an execution, from the CLI's --json output alone.

Usage: account.py wait RELIVE ID STEP              wait until the activity STEP has completed
       account.py account RELIVE ID [FOLDER ..]    print the account; ledgers are looked for in the folders
Exit 0 = as it must be; 1 = not, and it says what.
"""

import json
import pathlib
import subprocess
import sys
import time
import urllib.request
from os import environ

PATIENCE_S = 60
# The CLI's exit code for a replay that disagrees or a finding of the checker: an answer, to be told below.
FINDINGS = 6


def cli(relive, *arguments):
    """What the CLI answers."""
    done = subprocess.run([relive, *arguments, "--json"], capture_output=True, text=True)
    if done.returncode not in (0, FINDINGS):
        sys.exit(f"error: relive {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return json.loads(done.stdout)


def status():
    """The host's own counters."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(environ["RELIVE_SERVER"] + "/v1/status", timeout=5) as answer:
        return json.load(answer)


def wait(relive, workflow_id, name):
    """Until the step has completed."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        steps = cli(relive, "show", workflow_id)["steps"]
        if any(step["name"] == name and step["state"] == "completed" for step in steps):
            return
        time.sleep(0.02)
    sys.exit(f"error: {name} did not complete within {PATIENCE_S} s")


def ledger_keys(folders, run_id):
    """Idempotency keys of the run, as the activities' ledger has them, and where that is."""
    for folder in folders:
        for ledger in sorted(pathlib.Path(folder).rglob("ledger.txt")):
            keys = [line.split(" ")[0] for line in ledger.read_text().splitlines() if line]
            keys = [key for key in keys if f":{run_id}:" in key]
            if keys:
                return keys, ledger
    return [], None


def count(number, noun):
    """`1 event`, `12 events`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def rate(events, micros):
    """`12 events in 340 us`."""
    return f"{count(events, 'event')} in {micros:,} us"


def account(relive, workflow_id, folders):
    """Print it, and fail if anything is not as promised."""
    detail = cli(relive, "show", workflow_id)
    replay = cli(relive, "replay", workflow_id)
    verified = cli(relive, "verify", "--all")
    host = status()
    keys, ledger = ledger_keys(folders, detail["run_id"])
    activities = [step for step in detail["steps"] if step["kind"] == "activity"]

    print(f"\n  {workflow_id}: {detail['status']}, {detail['events']} events, run {detail['run_id']}\n")
    print(f"    {'step':>4}  {'what':<22} {'state':<10} attempts")
    for step in detail["steps"]:
        what = f"{step['kind']} {step['name']}".strip()
        attempts = step["attempts"] if step["kind"] == "activity" else ""
        print(f"    {step['command_no']:>4}  {what:<22} {step['state']:<10} {attempts}")
    print(f"\n  after the kill    the new host relived {count(host['relives'], 'execution')}:",
          rate(host["relived_events"], host["relive_micros"]))
    print("  relived again    ", "agrees with its history," if replay["agrees"] else "DIVERGES,",
          rate(replay["events"], replay["micros"]) + f", {count(replay['commands'], 'command')}")
    print(f"  fingerprint       {detail['fingerprint']}")
    print(f"  verify --all      {count(verified['executions'], 'execution')}, {count(verified['events'], 'event')},",
          f"{len(verified['findings']) or 'no'} findings")
    print(f"  ledger            {count(len(keys), 'effect')} of {len(activities)} activities, each idempotency key",
          "once" if len(set(keys)) == len(keys) else "NOT once", f"({ledger})")

    problems = [
        (detail["status"] != "completed", f"the execution is {detail['status']}"),
        (not replay["agrees"], "the replay does not agree"),
        (bool(verified["findings"]), f"the checker found {verified['findings'][:3]}"),
        (host["relives"] < 1, "nothing was relived: the kill hit no open execution"),
        (len(set(keys)) != len(keys), "an idempotency key is in the ledger twice"),
        (len(keys) != len(activities), f"{len(activities)} activities left {len(keys)} lines in the ledger"),
    ]
    found = [sentence for bad, sentence in problems if bad]
    for sentence in found:
        print(f"error: {sentence}", file=sys.stderr)
    sys.exit(1 if found else 0)


def main():
    match sys.argv[1:]:
        case ["wait", relive, workflow_id, name]:
            wait(relive, workflow_id, name)
        case ["account", relive, workflow_id, *folders]:
            account(relive, workflow_id, folders)
        case _:
            sys.exit(__doc__)


main()
