"""What `make cluster` shows, over servers that `scripts/servers` has started.

Usage: cluster.py RELIVE GUESTS ORDERS
Two hosts share a database and a broker. Orders (a Rust workflow with a WebAssembly activity, a Python worker and a URL) are
started at both, one host is killed with `kill -9` on the way, and the other finishes everything. Exit 0 = it all held.
"""

import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

RELIVE, GUESTS, ORDERS = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
ROOT = pathlib.Path(__file__).resolve().parent.parent
BASE = "/v1/namespaces/default"
CLIENTS = 8
# Without `order`, whose own `charge` would take the place of the worker's.
EXAMPLES = ("hello", "approval", "fan-out", "heartbeat", "long-runner", "polyglot")
# The share of the orders that has ended when a host is killed.
KILL_AT = 0.4
PATIENCE_S = 120

BEGAN = time.monotonic()
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def step(text):
    print(f"\n[{time.monotonic() - BEGAN:3.0f} s] {text}", flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(address, method, path, body=None):
    """Status and JSON of an answer; OSError: nobody answered."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://{address}{path}", data, headers, method=method)
    try:
        with OPENER.open(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


class Processes:
    """All that this started; none of it stays."""

    def __init__(self, folder):
        self.folder, self.running = folder, {}

    def start(self, name, *command, **more):
        log = open(self.folder / f"{name}.log", "ab")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **more})
        self.running[name] = process
        return process

    def kill(self, name):
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def stop(self):
        for name, process in reversed(self.running.items()):
            process.send_signal(signal.SIGTERM)
        for name, process in self.running.items():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                print(f"{name} does not end; killing it", file=sys.stderr)
                process.kill()

    def tails(self):
        for log in sorted(self.folder.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-15:]
            print(f"\nthe last lines of {log.name}:", *lines, sep="\n  ", file=sys.stderr)


def until(what, condition, patience=60):
    end = time.monotonic() + patience
    while True:
        try:
            found = condition()
            if found:
                return found
        except OSError:
            pass
        if time.monotonic() > end:
            sys.exit(f"error: waited {patience} s in vain for {what}")
        time.sleep(0.02)


def start_host(processes, name):
    port = free_port()
    store, queue = os.environ["RELIVE_TEST_PG"], os.environ["RELIVE_TEST_NATS"]
    data = processes.folder / name
    processes.start(name, RELIVE, "serve", "--host-id", name, "--listen", f"127.0.0.1:{port}", "--data", str(data),
                    RELIVE_STORE=store, RELIVE_QUEUE=queue)
    address = f"127.0.0.1:{port}"
    until(f"host {name}", lambda: ask(address, "GET", "/v1/status")[0] == 200)
    return address


def start_books(processes):
    books = processes.start("books", "python3", "-u", str(ROOT / "examples-wasm/polyglot/books.py"), "0",
                            str(processes.folder / "books.jsonl"))
    log = processes.folder / "books.log"
    return until("the books", lambda: books.poll() is None and log.read_text().strip())


def deploy(processes, address, books):
    """The examples, from copies: the activities of some write beside their manifests."""
    for example in EXAMPLES:
        copy = processes.folder / "examples" / example
        shutil.copytree(GUESTS / example, copy)
        (copy / "ledger").mkdir(exist_ok=True)
        manifest = copy / "relive.toml"
        manifest.write_text(manifest.read_text().replace("http://127.0.0.1:7481", books))
        done = subprocess.run([RELIVE, "deploy", str(copy)], env={**os.environ, "RELIVE_SERVER": f"http://{address}"},
                              capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"error: deploying {example}: {done.stderr.strip()}")


class Orders:
    """A client's view: each order is begun, and asked for until it has ended."""

    def __init__(self, addresses):
        self.addresses, self.lock = addresses, threading.Lock()
        self.ended, self.gap, self.last = {}, 0.0, time.monotonic()
        self.killed_at = None

    def insist(self, n, method, path, body=None):
        """Any host will do; one that is gone is not asked for long."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            addresses = list(self.addresses)
            try:
                status, answer = ask(addresses[n % len(addresses)], method, path, body)
                if status < 500:
                    return status, answer
            except OSError:
                pass
            n += 1
            time.sleep(0.05)
        raise SystemExit(f"error: no host answers {path}")

    def run(self, n):
        order = {"order_id": f"o-{n}", "item": "tea", "quantity": 1 + n % 3}
        body = {"workflow": "polyglot-order", "workflow_id": f"order-{n}", "input": order, "request_id": f"start-{n}"}
        status, answer = self.insist(n, "POST", f"{BASE}/executions", body)
        if status not in (200, 201):
            raise SystemExit(f"error: order-{n} was refused: {answer}")
        while True:
            _, answer = self.insist(n + 1, "GET", f"{BASE}/executions/order-{n}/result?wait_ms=20000")
            if answer["status"] != "running":
                break
        with self.lock:
            now = time.monotonic()
            if self.killed_at is not None:
                self.gap = max(self.gap, now - max(self.last, self.killed_at))
            self.last = now
            self.ended[n] = answer


def account(processes, address, orders, charges, failover):
    """Print it, and fail if anything is not as promised."""
    _, report = ask(address, "POST", f"{BASE}/verify", {})
    _, hosts = ask(address, "GET", "/v1/hosts")
    _, failed = ask(address, "GET", f"{BASE}/failed-tasks")
    books = processes.folder / "books.jsonl"
    booked = [json.loads(line)["key"] for line in (books.read_text() if books.exists() else "").splitlines()]
    charged = [file.read_text().split()[0] for file in charges.iterdir()]
    completed = sum(answer["status"] == "completed" for answer in orders.ended.values())
    others = [answer for answer in orders.ended.values() if answer["status"] != "completed"]
    print(f"\n  orders            {ORDERS:,} begun, {completed:,} completed")
    print(f"  charges           {len(charged):,}, each idempotency key", "once" if len(set(charged)) == len(charged) else "NOT once")
    print(f"  bookings          {len(booked):,}, each idempotency key", "once" if len(set(booked)) == len(booked) else "NOT once")
    print(f"  failed tasks      {len(failed['failed_tasks'])}")
    print(f"  verify --all      {report['executions']:,} executions, {report['events']:,} events, {len(report['findings'])} findings")
    print(f"  failover          longest time without an order that ended: {failover:.1f} s")
    for host in hosts["hosts"]:
        print(f"  host {host['id']:<12} {host['state']}, {host['shards']} shards")
    problems = [
        (completed != ORDERS, f"{ORDERS - completed} orders did not complete, such as {others[:1]}"),
        (len(set(charged)) != ORDERS or len(charged) != ORDERS, f"{len(charged)} charges"),
        (len(set(booked)) != ORDERS or len(booked) != ORDERS, f"{len(booked)} bookings"),
        (bool(report["findings"]), f"the checker found {report['findings'][:3]}"),
        (bool(failed['failed_tasks']), "tasks failed"),
        (failover > 15, "the failover took too long"),
    ]
    found = [sentence for bad, sentence in problems if bad]
    for sentence in found:
        print(f"error: {sentence}", file=sys.stderr)
    return not found


def story(processes):
    done = subprocess.run([RELIVE, "migrate-store", "--store", os.environ["RELIVE_TEST_PG"]], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {done.stderr.strip()}")
    step("starting hosts a and b, and a worker over NATS")
    addresses = [start_host(processes, name) for name in ("a", "b")]
    shares = lambda: [host["shards"] for host in ask(addresses[1], "GET", "/v1/hosts")[1]["hosts"]]
    until("both to own shards", lambda: len(shares()) == 2 and min(shares()) > 0 and sum(shares()) == 256)
    print("         a at http://{}, b at http://{}".format(*addresses))
    charges = processes.folder / "charges"
    charges.mkdir()
    books = start_books(processes)
    processes.start("worker", "python3", str(ROOT / "examples-wasm/polyglot/worker.py"), os.environ["RELIVE_TEST_NATS"],
                    str(charges))
    step("deploying the examples: " + ", ".join(EXAMPLES))
    deploy(processes, addresses[0], books)

    step(f"{ORDERS:,} orders, at both hosts in turn: a wasm activity, a Python worker, and a URL each")
    orders = Orders(addresses)
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
        running = [clients.submit(orders.run, n) for n in range(ORDERS)]
        until("some orders to end", lambda: len(orders.ended) >= ORDERS * KILL_AT, PATIENCE_S)
        step(f"{len(orders.ended):,} have ended. Killing host a now: kill -9 {processes.running['a'].pid}")
        with orders.lock:
            orders.killed_at = time.monotonic()
        processes.kill("a")
        orders.addresses = addresses[1:]
        concurrent.futures.wait(running)
        for future in running:
            future.result()
    took = time.monotonic() - began
    step(f"all of them have ended, {ORDERS / took:,.0f} a second")
    step("the account")
    return account(processes, addresses[1], orders, charges, orders.gap)


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="relive-cluster."))
    processes = Processes(folder)
    held = False
    try:
        held = story(processes)
    finally:
        if not held:
            processes.tails()
        step("stopping everything")
        processes.stop()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if held else 1)


main()
