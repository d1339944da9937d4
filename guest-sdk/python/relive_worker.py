"""Activities for Relive workflows, in Python: copy this file, no package is needed. Python 3.9 or later.

    from relive_worker import ActivityError, Worker

    worker = Worker("http://127.0.0.1:7474", task_queue="default")

    @worker.activity("charge")
    def charge(task, input):
        if input["cents"] > 100_000:
            raise ActivityError("limit", "more than the card allows")       # for good; retryable=True: try again
        return {"charged": input["cents"], "key": task.idempotency_key}     # any JSON

    worker.run()        # until SIGTERM or SIGINT

An attempt may be a repetition: a worker or a host can die between an effect and its record. `task.idempotency_key` is
the same for all attempts of a step; keep it beside the effect. Activities run in threads, `concurrency` at once.

It owns: the worker's registration, polls, heartbeats and answers, over HTTP or NATS (`nats://127.0.0.1:4222`). The
protocol is in docs/workers.md and docs/workers-nats.md.
"""

from __future__ import annotations

import heapq
import http.client
import inspect
import itertools
import json
import logging
import os
import queue
import random
import signal
import socket
import ssl
import threading
import time
import traceback
import urllib.parse
from typing import Any, Callable, Optional, TypeVar

__all__ = ["ActivityError", "Canceled", "Defer", "Task", "Worker", "WorkerError"]
__version__ = "0.1"

_log = logging.getLogger("relive")

_CONNECT = 5.0  # s; a host that is up accepts at once
_ANSWER = 30.0  # s; beyond what a poll waits
_WAIT = 30.0  # s that a poll waits at the host; below what proxies cut off
_NATS_WAIT, _NATS_ANSWER = 5.0, 10.0  # s; over NATS nobody tells the host that a worker has gone, nor the other way
_FIRST_PAUSE, _LAST_PAUSE = 0.1, 5.0  # s between tries while the host is away, doubled and jittered
_SAY_AGAIN = 30.0  # s between two lines about one outage
_MOST_BETWEEN_BEATS = 10.0  # s; also without a heartbeat timeout, because cancellation comes with the answers
_MAX_ANSWER_BYTES = 256 << 20  # a hundred tasks of 2 MiB each, and what stands around them
_CHUNK = 1 << 16
_MAX_PAYLOAD_BYTES = 2 << 20  # the host's own limit of a result or of details
_MAX_BATCH, _BATCH_BYTES = 100, 1 << 20  # answers of one request
_MAX_A_POLL = 100
_REPORTERS = 2  # one sends while what comes in collects for the other
_TRACEBACK = 4_000  # characters of a traceback's end that go into a failure's details
_CODE, _MESSAGE = 200, 2_000  # characters of a failure's code and message
_PASSING = ("store-unavailable", "no-space", "read-only", "shutting-down", "fenced", "try-again", "internal")

Function = TypeVar("Function", bound=Callable[["Task", Any], Any])


class ActivityError(Exception):
    """The activity failed, and says how. `code` is for programs: workflows and retry policies look at it."""

    def __init__(self, code: str, message: str = "", retryable: bool = False, details: Any = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.retryable, self.details = code, message, retryable, details


class Canceled(BaseException):
    """Raised by `Task.heartbeat`: the workflow wants the attempt to stop, or nobody waits for it any more (`gone`).
    Clean up and let it pass. No `Exception`, so that `except Exception` does not swallow it."""

    def __init__(self, gone: bool) -> None:
        super().__init__("nobody waits for the attempt any more" if gone else "the attempt was asked to stop")
        self.gone = gone


class Defer(BaseException):
    """Raise it in an activity that somebody else completes: whoever has `task.token`, however long it takes."""


class WorkerError(Exception):
    """The host refuses the worker, and waiting does not mend it."""


class _Refused(Exception):
    """The host's answer is a problem (RFC 9457)."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{detail} ({code}, {status})")
        self.status, self.code, self.detail = status, code, detail

    def may_pass(self) -> bool:
        return self.status >= 500 or self.status in (408, 425, 429)


class _Unsent(ConnectionError):
    """There was no connection to send anything over."""


class _Backoff:
    """Pauses while the host is away, and a line about it now and then."""

    def __init__(self, what: str) -> None:
        self._what, self._pause = what, _FIRST_PAUSE
        self._since: Optional[float] = None
        self._said = 0.0

    def wait(self, why: Exception, until: threading.Event) -> bool:
        """Pauses; false: `until` was set."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if self._said == 0.0 or now - self._said >= _SAY_AGAIN:
            self._said = now
            _log.warning("%s: %s; trying again", self._what, why)
        pause = self._pause * random.uniform(0.5, 1.0)
        self._pause = min(self._pause * 2, _LAST_PAUSE)
        return not until.wait(pause)

    def well(self) -> None:
        if self._since is not None:
            _log.info("%s: well again after %.1f s", self._what, time.monotonic() - self._since)
        self._pause, self._since, self._said = _FIRST_PAUSE, None, 0.0


class _Host:
    """The HTTP client: a kept connection for each thread, a limit on time and size of every answer."""

    wait = _WAIT  # s that a poll may wait
    batch_bytes = _BATCH_BYTES

    def __init__(self, server: str, namespace: str, ca: Optional[str] = None) -> None:
        parts = urllib.parse.urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the server's address {server!r} is not like http://127.0.0.1:7474")
        self._tls: Optional[ssl.SSLContext] = None
        if parts.scheme == "https":
            self._tls = ssl.create_default_context()
            if ca is not None:
                self._tls.load_verify_locations(cafile=ca)  # beside the well-known authorities
        self._address = (parts.hostname, parts.port)
        self._base = f"{parts.path.rstrip('/')}/v1/namespaces/{urllib.parse.quote(namespace, safe='')}"
        self._connections: dict[int, Any] = {}  # by thread

    def call(
        self,
        method: str,
        path: tuple[str, ...],
        body: Optional[bytes],
        timeout: float = _ANSWER,
        once: bool = False,
    ) -> Any:
        """The answer's JSON. `OSError`: nobody knows whether the host did it. A request that met a connection which the
        host had closed is sent once more, unless `once`: most may come twice."""
        route = "".join(f"/{urllib.parse.quote(part, safe='')}" for part in path)
        while True:
            connection = self._connections.get(threading.get_ident())
            fresh = connection is None
            try:
                if connection is None:
                    connection = self._connect()
                connection.sock.settimeout(timeout)
                headers = {"content-type": "application/json"} if body is not None else {}
                connection.request(method, self._base + route, body=body, headers=headers)
                response = connection.getresponse()
                text = self._read(response)
                if response.will_close:
                    self.hang_up()
                break
            except (OSError, http.client.HTTPException, AttributeError) as error:
                self.hang_up()
                # The host closes what is idle: that says nothing about this request.
                if isinstance(error, _Unsent):
                    raise
                if fresh or once or isinstance(error, socket.timeout):
                    raise ConnectionError(str(error) or type(error).__name__) from error
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConnectionError(f"an answer of status {response.status} that is no JSON") from error
        if response.status >= 300:
            problem = document if isinstance(document, dict) else {}
            raise _Refused(response.status, str(problem.get("code", "")), str(problem.get("detail", "no problem given")))
        return document

    @staticmethod
    def _read(response: http.client.HTTPResponse) -> bytes:
        # Not read(MAX): older Pythons allocate as much as they are asked for.
        chunks: list[bytes] = []
        size = 0
        while True:
            chunk = response.read(min(response.length or _CHUNK, _CHUNK))
            if not chunk:
                return b"".join(chunks)
            size += len(chunk)
            if size > _MAX_ANSWER_BYTES:
                raise ConnectionError(f"an answer of more than {_MAX_ANSWER_BYTES} bytes")
            chunks.append(chunk)

    def _connect(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(*self._address, timeout=_CONNECT)
        else:
            connection = http.client.HTTPSConnection(*self._address, timeout=_CONNECT, context=self._tls)
        try:
            connection.connect()
        except OSError as error:
            raise _Unsent(str(error) or type(error).__name__) from error
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[threading.get_ident()] = connection
        return connection

    def hang_up(self) -> None:
        """Closes the connection of this thread."""
        connection = self._connections.pop(threading.get_ident(), None)
        if connection is not None:
            connection.close()

    def interrupt(self, thread: threading.Thread) -> None:
        """What the thread waits for breaks off."""
        connection = self._connections.get(thread.ident or 0)
        try:
            if connection is not None and connection.sock is not None:
                connection.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is closed already


class _NatsConnection:
    """A connection to a NATS server, for one request at a time. The protocol is NATS's own, with headers."""

    def __init__(self, url: urllib.parse.SplitResult, ca: Optional[str]) -> None:
        self.sock: socket.socket = socket.create_connection((url.hostname or "", url.port or 4222), _CONNECT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.sock.makefile("rb")
        try:
            self._greet(url, ca)
        except BaseException:
            self.close()
            raise

    def _greet(self, url: urllib.parse.SplitResult, ca: Optional[str]) -> None:
        info = json.loads(self._line().partition(b" ")[2])
        self.max_payload: int = info.get("max_payload", 1 << 20)
        if url.scheme == "tls" or info.get("tls_required"):
            trust = ssl.create_default_context()
            if ca is not None:
                trust.load_verify_locations(cafile=ca)
            self.sock = trust.wrap_socket(self.sock, server_hostname=url.hostname)
            self._file = self.sock.makefile("rb")
        options = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "lang": "python"}
        options.update(version=__version__, name="relive-worker", protocol=1)
        user, password = (urllib.parse.unquote(text or "") for text in (url.username, url.password))
        if user:
            options.update({"user": user, "pass": password} if password else {"auth_token": user})
        self._inbox = f"_INBOX.{os.urandom(12).hex()}"
        self._number = 0
        self._send(b"CONNECT " + json.dumps(options).encode() + f"\r\nSUB {self._inbox}.* 1\r\nPING\r\n".encode())
        while self._line() != b"PONG":
            pass

    def request(self, subject: str, body: bytes, timeout: float) -> tuple[int, bytes]:
        """Status and body of the answer; 0: nobody is there to answer."""
        deadline = time.monotonic() + timeout
        self._number += 1
        inbox = f"{self._inbox}.{self._number}"
        self._send(f"PUB {subject} {inbox} {len(body)}\r\n".encode() + body + b"\r\n")
        status, parts, bodies, size = 0, 1, [], 0
        while len(bodies) < parts:
            self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
            line = self._line()
            if not line.startswith((b"MSG ", b"HMSG ")):
                continue
            words = line.split()
            payload = self._file.read(int(words[-1]) + 2)[:-2]
            if words[1].decode() != inbox:
                continue  # the rest of an answer that was given up
            head = int(words[-2]) if words[0] == b"HMSG" else 0
            first, *lines = payload[:head].decode(errors="replace").split("\r\n")
            if first.startswith("NATS/1.0 503"):
                return 0, b""
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            status = int(headers.get("relive-status", status))
            parts = int(headers.get("relive-parts", parts))
            bodies.append(payload[head:])
            size += len(payload)
            if size > _MAX_ANSWER_BYTES:
                raise ConnectionError(f"an answer of more than {_MAX_ANSWER_BYTES} bytes")
        return status, b"".join(bodies)

    def _send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def _line(self) -> bytes:
        while True:
            line = self._file.readline(1 << 20)
            if not line.endswith(b"\r\n"):
                raise ConnectionError("the NATS server hung up")
            if line.startswith(b"-ERR"):
                raise ConnectionError(f"NATS: {line[5:].strip().decode(errors='replace')}")
            if line != b"PING\r\n":
                return line.strip()
            self._send(b"PONG\r\n")

    def close(self) -> None:
        self._file.close()
        self.sock.close()


class _NatsHost(_Host):
    """The hosts behind a NATS server: the same requests, as docs/workers-nats.md has them."""

    wait = _NATS_WAIT
    batch_bytes = _BATCH_BYTES // 2

    def __init__(self, server: str, namespace: str, ca: Optional[str] = None) -> None:
        self._ca = ca
        self._url = urllib.parse.urlsplit(server)
        prefix = self._url.path.strip("/") or "relive"
        if not self._url.hostname or not prefix.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"the server's address {server!r} is not like nats://127.0.0.1:4222")
        plain = "-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
        token = "".join(chr(b) if chr(b) in plain else f"={b:02X}" for b in namespace.encode())
        self._subjects = f"{prefix}.workers.{token}."
        self._connections: dict[int, Any] = {}

    def call(
        self,
        method: str,
        path: tuple[str, ...],
        body: Optional[bytes],
        timeout: float = _ANSWER,
        once: bool = False,
    ) -> Any:
        operation, field = self._operation(method, path)
        if field is not None:
            rest = body[1:] if body and body.startswith(b"{") and body != b"{}" else b"}"
            body = json.dumps(field).encode()[:-1] + (b"," if rest != b"}" else b"") + rest
        body, timeout = body or b"{}", min(timeout, self.wait + _NATS_ANSWER)
        while True:
            connection = self._connections.get(threading.get_ident())
            fresh = connection is None
            if connection is None:
                connection = self._connect()
            if len(body) > connection.max_payload:
                raise _Refused(413, "payload-too-large", f"{len(body)} bytes are more than the NATS server takes")
            try:
                status, text = connection.request(self._subjects + operation, body, timeout)
                break
            except (OSError, ValueError) as error:
                self.hang_up()
                # The server closes what is silent: that says nothing about this request.
                if fresh or once or isinstance(error, socket.timeout):
                    raise ConnectionError(str(error) or type(error).__name__) from error
        if status == 0:
            raise _Unsent("no host listens on NATS")
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConnectionError(f"an answer of status {status} that is no JSON") from error
        if status >= 300:
            problem = document if isinstance(document, dict) else {}
            raise _Refused(status, str(problem.get("code", "")), str(problem.get("detail", "no problem given")))
        return document

    def _connect(self) -> Any:
        try:
            connection = _NatsConnection(self._url, self._ca)
        except (OSError, ValueError) as error:
            raise _Unsent(str(error) or type(error).__name__) from error
        self._connections[threading.get_ident()] = connection
        return connection

    @staticmethod
    def _operation(method: str, path: tuple[str, ...]) -> tuple[str, Optional[dict[str, str]]]:
        """What a request of the API is called, and the field that a part of its path becomes."""
        if path[0] == "workers":
            if len(path) == 1:
                return "register", None
            return "leave" if method == "DELETE" else "beat", {"worker_id": path[1]}
        if path[0] == "task-queues":
            return "poll", {"task_queue": path[1]}
        return ("answer", None) if len(path) == 2 else (path[2], {"token": path[1]})


def _dump(value: Any) -> bytes:
    """JSON as the host takes it: no NaN, and not larger than a payload may be."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if len(text) > _MAX_PAYLOAD_BYTES:
        raise ValueError(f"{len(text)} bytes of JSON; the host takes {_MAX_PAYLOAD_BYTES}")
    return text


class Task:
    """One attempt of an activity."""

    def __init__(self, form: dict[str, Any], host: _Host, later: Callable[[float, "Task"], None]) -> None:
        self.token: str = form["token"]  #: whoever has it may answer for this attempt
        self.activity: str = form["activity"]
        self.input: Any = form.get("input")
        self.namespace: str = form["namespace"]
        self.workflow: str = form["workflow"]
        self.workflow_id: str = form["workflow_id"]
        self.run_id: str = form["run_id"]
        self.command_no: int = form["command_no"]
        self.attempt: int = form["attempt"]  #: from 1
        self.maximum_attempts: int = form["maximum_attempts"]  #: 0: without end
        self.task_queue: str = form["task_queue"]
        self.idempotency_key: str = form["idempotency_key"]  #: the same for all attempts of the step
        self.correlation_id: Optional[str] = form.get("correlation_id")
        # The attempt's span (W3C Trace Context), to be handed on to what it calls.
        self.traceparent: Optional[str] = form.get("traceparent")
        self.details: Any = form.get("heartbeat_details")  #: what the last heartbeat of an attempt before told
        self.timeout: float = form["start_to_close_ms"] / 1000  #: s that the attempt has
        beat = form.get("heartbeat_timeout_ms")
        self.heartbeat_timeout: Optional[float] = None if beat is None else beat / 1000  #: s
        third = _MOST_BETWEEN_BEATS if beat is None else beat / 3000
        self._between = min(third, _MOST_BETWEEN_BEATS)
        self._host, self._later = host, later
        self._lock = threading.Condition()
        self._pending: Optional[bytes] = None  # details that the host has not heard
        self._wanted = self._sending = self._scheduled = self._over = False
        self._next = 0.0
        self._stop: Optional[Canceled] = None

    def heartbeat(self, details: Any = None) -> None:
        """The attempt goes on, and how far it came; `None` keeps what was told before. Call it as often as you like:
        the host hears of the latest at least every third of the heartbeat timeout. Raises `Canceled` if the attempt
        should stop."""
        pending = None if details is None else _dump(details)
        with self._lock:
            self._pending, self._wanted = pending or self._pending, True
            if self._stop is None and (self._sending or time.monotonic() < self._next):
                self._schedule()
                return
            send = self._sending = self._stop is None
        if send:
            self._send()
        if self._stop is not None:
            raise Canceled(self._stop.gone)

    @property
    def is_canceled(self) -> bool:
        """Whether the attempt should stop, as far as heartbeats have told."""
        return self._stop is not None

    def _schedule(self) -> None:
        # While one is on its way, its end sees to the next.
        if not (self._scheduled or self._over or self._sending):
            self._scheduled = True
            self._later(self._next, self)

    def _flush(self, last: bool = False) -> None:
        """What was held back goes out; the last one before the attempt's end waits for the one on its way."""
        with self._lock:
            self._scheduled = False
            if last:
                self._over = True
                self._lock.wait_for(lambda: not self._sending, _CONNECT)
            if self._sending or not self._wanted or self._over != last or self._stop is not None:
                return
            self._sending = True
        self._send()

    def _send(self) -> None:
        with self._lock:
            details, self._pending, self._wanted = self._pending, None, False
        body = b'{"details":' + details + b"}" if details else b"{}"
        pause = self._between
        try:
            answer = self._host.call("POST", ("tasks", self.token, "heartbeat"), body, max(self._between, 1.0))
            if answer.get("gone") or answer.get("cancel_requested"):
                self._stop = Canceled(bool(answer.get("gone")))
        except (_Refused, OSError) as error:
            _log.debug("a heartbeat of %s was not heard: %s", self.activity, error)
            if isinstance(error, _Refused) and not error.may_pass():
                self._stop = self._stop or (Canceled(True) if error.status in (404, 409) else None)
            else:
                pause = min(self._between / 4, 1.0)
                with self._lock:
                    self._pending, self._wanted = self._pending or details, True
        finally:
            with self._lock:
                self._sending = False
                self._next = time.monotonic() + pause
                self._lock.notify_all()
                if self._wanted:
                    self._schedule()


class _Answer:
    """What is told about one attempt."""

    def __init__(self, task: Task, member: str, value: bytes, smaller: Optional["_Answer"] = None) -> None:
        self.task, self.member, self.smaller = task, member, smaller
        self.body = b'{"token":%s,"%s":%s}' % (json.dumps(task.token).encode(), member.encode(), value)

    @classmethod
    def failure(cls, task: Task, code: str, message: str, retryable: bool, details: Any = None) -> "_Answer":
        code, message = (text.encode(errors="replace").decode() for text in (code[:_CODE], message[:_MESSAGE]))
        form = {"code": code, "message": message, "retryable": retryable, "details": details}
        smaller = cls(task, "failure", _dump({**form, "details": None}))
        try:
            return smaller if details is None else cls(task, "failure", _dump(form), smaller)
        except (TypeError, ValueError):
            return smaller

    def instead(self, code: str, detail: str) -> Optional["_Answer"]:
        """What is told if the host does not take this one: that it does not."""
        if code == "payload-too-large" and self.smaller is not None:
            return self.smaller
        if self.member != "result":
            return None
        return self.failure(self.task, code or "refused", f"the host refuses the result: {detail}", False)


class Worker:
    """Takes tasks of one queue and runs the activities that it was given."""

    def __init__(
        self,
        server: str = "http://127.0.0.1:7474",
        task_queue: str = "default",
        namespace: str = "default",
        concurrency: int = 20,
        identity: Optional[str] = None,
        grace: float = 30.0,
        ca: Optional[str] = None,
    ) -> None:
        """`concurrency`: attempts at once. `identity`: what operators see. `grace`: seconds that running activities
        have once the worker is asked to stop. `ca`: a PEM file with authorities to trust beside the well-known ones,
        for a server with https."""
        if concurrency < 1:
            raise ValueError("concurrency is at least 1")
        self.server, self.task_queue, self.concurrency, self.grace = server, task_queue, concurrency, grace
        self.identity = identity or f"{socket.gethostname()}:{os.getpid()}"
        self.worker_id: Optional[str] = None  #: what the host calls it
        self._host = (_NatsHost if server.startswith(("nats://", "tls://")) else _Host)(server, namespace, ca)
        self._activities: dict[str, Callable[[Task, Any], Any]] = {}
        self._wishes: "queue.SimpleQueue[Optional[BaseException]]" = queue.SimpleQueue()
        self._tasks: "queue.SimpleQueue[Optional[Task]]" = queue.SimpleQueue()
        self._answers: "queue.SimpleQueue[Optional[_Answer]]" = queue.SimpleQueue()
        self._stopping, self._over = threading.Event(), threading.Event()
        self._changed = threading.Condition()
        self._in_hand: dict[str, Task] = {}
        self._threads = 0
        self._registering = threading.Lock()
        self._doubt = False  # a poll was sent and never answered: the host may think that the worker has what was in it
        self._beat_every = 30.0
        self._due = threading.Condition()
        self._beats: list[tuple[float, int, Task]] = []
        self._numbers = itertools.count()

    def activity(self, name: Optional[str] = None) -> Callable[[Function], Function]:
        """Decorates `function(task, input)`: its result, or what it raises, is the attempt's. The name is the
        function's own if none is given."""

        def register(function: Function) -> Function:
            if inspect.iscoroutinefunction(function):
                raise TypeError(f"{function.__name__} is async; activities run in threads: call asyncio.run in it")
            self._activities[name or function.__name__] = function
            return function

        return register

    def stop(self) -> None:
        """Asks `run` to come to an end; the second time, at once. From any thread or signal handler."""
        self._wishes.put(None)

    def run(self) -> None:
        """Works until it is asked to stop; SIGTERM and SIGINT ask, if this is the main thread. A host that cannot be
        reached is waited for. Raises `WorkerError` if the host refuses the worker. A worker runs once."""
        if not self._activities:
            raise ValueError("the worker has no activities")
        if not logging.getLogger().handlers and not _log.handlers:
            logging.basicConfig(level=logging.INFO, format="%(asctime)s relive %(levelname)s %(message)s")
        before = []
        if threading.current_thread() is threading.main_thread():
            before = [(n, signal.signal(n, lambda *_: self.stop())) for n in (signal.SIGTERM, signal.SIGINT)]
        try:
            poller = self._spawn(self._poll)
            reporters = [self._spawn(self._report) for _ in range(_REPORTERS)]
            self._spawn(self._beat)
            self._spawn(self._beat_tasks)
            wish = self._wishes.get()
            self._stopping.set()
            self._finish(poller, reporters)
        finally:
            self._stopping.set()
            self._over.set()
            for number, handler in before:
                signal.signal(number, handler)
        if wish is not None:
            raise wish

    def _spawn(self, function: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                function()
            except BaseException as error:  # a thread that ends unheard would be a worker that does half of its work
                self._wishes.put(error)
            finally:
                self._host.hang_up()

        thread = threading.Thread(target=guarded, name=f"relive-{function.__name__.strip('_')}", daemon=True)
        thread.start()
        return thread

    def _finish(self, poller: threading.Thread, reporters: list[threading.Thread]) -> None:
        """Running activities may end; what is left goes back to the host."""
        deadline = time.monotonic() + self.grace
        _log.info("stopping; %d attempts have %.0f s to end", len(self._in_hand), self.grace)
        impatient = False
        while (self._in_hand or poller.is_alive()) and time.monotonic() < deadline and not impatient:
            # The host takes back what it was about to give to the poll.
            self._host.interrupt(poller)
            try:
                impatient = self._wishes.get(timeout=0.05) is None
            except queue.Empty:
                pass
        left = list(self._in_hand.values())
        if left:
            _log.warning("%d attempts did not end in time and go to other workers", len(left))
        for task in left:
            task._flush(last=True)
        self._over.set()
        for _ in reporters:
            self._answers.put(None)
        for _ in range(self._threads):
            self._tasks.put(None)
        with self._due:
            self._due.notify_all()
        if self.worker_id is not None:
            try:
                self._host.call("DELETE", ("workers", self.worker_id), None, _CONNECT)
            except (_Refused, OSError) as error:
                _log.debug("failed to say good-bye: %s", error)
        _log.info("stopped")

    # --- being known to the host

    def _register(self, known: Optional[str]) -> None:
        """Registers, unless another thread has done so since `known` was the worker's id."""
        with self._registering:
            if self.worker_id != known:
                return
            form = {
                "identity": self.identity,
                "task_queues": [self.task_queue],
                "activities": sorted(self._activities),
                "sdk": f"relive-python/{__version__}",
            }
            if known is not None:
                _log.warning("the host may not know worker %s any more; registering again", known)
                # What is in hand stays the worker's; what the host gave it and it never got goes back.
                form["replaces"], form["holds"] = known, list(self._in_hand)
            answer = self._host.call("POST", ("workers",), _dump(form))
            self._beat_every = answer["beat_every_ms"] / 1000
            self.worker_id, self._doubt = answer["worker_id"], False
            _log.info("registered at %s as %s, queue %s", self.server, self.worker_id, self.task_queue)

    def _beat(self) -> None:
        """Lets the host hear of the worker also while it has no room to poll."""
        while not self._over.wait(self._beat_every / 2):
            known = self.worker_id
            try:
                if known is not None:
                    self._host.call("POST", ("workers", known, "beat"), b"")
            except _Refused as refused:
                if refused.code == "unknown-worker":
                    try:
                        self._register(known)
                    except (_Refused, OSError) as error:
                        _log.debug("failed to register again: %s", error)
            except OSError as error:
                _log.debug("a beat was not heard: %s", error)

    # --- tasks

    def _poll(self) -> None:
        away = _Backoff(f"polling {self.server}")
        while not self._stopping.is_set():
            with self._changed:
                room = self.concurrency - len(self._in_hand)
                if room < 1:
                    self._changed.wait(1.0)
                    continue
            try:
                for form in self._poll_once(min(room, _MAX_A_POLL)):
                    self._take(Task(form, self._host, self._beat_later))
                away.well()
            except _Refused as refused:
                if refused.code == "unknown-worker":
                    self._lost(away)
                elif not refused.may_pass():
                    raise WorkerError(f"the host refuses the worker: {refused}") from refused
                else:
                    # A host that was asked on this one's behalf may have given tasks.
                    self._doubt = self._doubt or refused.code == "owner-lost"
                    away.wait(refused, self._stopping)
            except OSError as error:
                self._doubt = self._doubt or not isinstance(error, _Unsent)
                if not self._stopping.is_set():
                    away.wait(error, self._stopping)

    def _poll_once(self, most: int) -> list[dict[str, Any]]:
        if self.worker_id is None or self._doubt:
            self._register(self.worker_id)
        wait = int(self._host.wait * 1000)
        form = {"worker_id": self.worker_id, "max_tasks": most, "wait_ms": wait, "activities": sorted(self._activities)}
        path = ("task-queues", self.task_queue, "poll")
        polled = self._host.call("POST", path, _dump(form), self._host.wait + _ANSWER, once=True)
        tasks: list[dict[str, Any]] = polled["tasks"]
        return tasks

    def _lost(self, away: _Backoff) -> None:
        """The host does not know the worker: it was lost, or the host started anew."""
        try:
            self._register(self.worker_id)
        except (_Refused, OSError) as error:
            away.wait(error, self._stopping)

    def _take(self, task: Task) -> None:
        with self._changed:
            self._in_hand[task.token] = task
            more = self._threads < min(len(self._in_hand), self.concurrency)
            self._threads += more
        self._tasks.put(task)
        if more:
            self._spawn(self._work)

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                return
            answer = self._attempt(task)
            if answer is None:
                self._done(task)
            else:
                self._answers.put(answer)

    def _attempt(self, task: Task) -> Optional[_Answer]:
        """Runs the activity. `None`: nobody waits for an answer of this worker's."""
        answer: Optional[_Answer] = None
        try:
            result = self._activities[task.activity](task, task.input)
            try:
                answer = _Answer(task, "result", _dump(result))
            except (TypeError, ValueError) as error:
                answer = _Answer.failure(task, "encode-error", f"the result is no JSON: {error}", False)
        except ActivityError as error:
            answer = _Answer.failure(task, error.code, error.message, error.retryable, error.details)
        except Canceled as canceled:
            answer = None if canceled.gone else _Answer(task, "canceled", b"true")
        except Defer:
            self._defer(task)
        except BaseException as error:  # also SystemExit: an activity ends itself, not the worker
            name = type(error).__name__
            _log.warning("%s of %s, attempt %d: %s: %s", task.activity, task.workflow_id, task.attempt, name, error)
            details = {"traceback": traceback.format_exc()[-_TRACEBACK:]}
            answer = _Answer.failure(task, name, str(error), True, details)
        if answer is not None and answer.member == "failure":
            task._flush(last=True)  # the next attempt should know how far this one came
        task._over = True
        return answer

    def _defer(self, task: Task) -> None:
        away = _Backoff(f"deferring {task.activity}")
        with task._lock:
            task._over = True
            body = b'{"details":' + task._pending + b"}" if task._pending else b"{}"
        while True:
            try:
                self._host.call("POST", ("tasks", task.token, "defer"), body)
                return
            except (_Refused, OSError) as error:
                if isinstance(error, _Refused) and not error.may_pass():
                    _log.warning("%s of %s was not deferred: %s", task.activity, task.workflow_id, error)
                    return
                if not away.wait(error, self._over):
                    return

    def _done(self, task: Task) -> None:
        with self._changed:
            self._in_hand.pop(task.token, None)
            self._changed.notify_all()

    # --- answers

    def _report(self) -> None:
        held: Optional[_Answer] = None
        while True:
            answer, held = held or self._answers.get(), None
            if answer is None:
                return
            batch, size = [answer], len(answer.body)
            while len(batch) < _MAX_BATCH:
                try:
                    answer = self._answers.get_nowait()
                except queue.Empty:
                    break
                if answer is None:
                    self._answers.put(None)
                    break
                size += len(answer.body)
                if size > self._host.batch_bytes:
                    held = answer
                    break
                batch.append(answer)
            self._deliver(batch)

    def _deliver(self, batch: list[_Answer]) -> None:
        """Sends answers until the host has taken or refused each; the same one twice is one."""
        away = _Backoff(f"answering {self.server}")
        while batch:
            body = b'{"answers":[' + b",".join(answer.body for answer in batch) + b"]}"
            trouble: Exception = ConnectionError("the host could not take it")
            again: list[_Answer] = []
            try:
                outcomes = self._host.call("POST", ("tasks", "complete"), body)["outcomes"]
                for answer, outcome in zip(batch, outcomes):
                    again.extend(self._settle(answer, outcome))
            except _Refused as refused:
                trouble, again = refused, batch
                if not refused.may_pass() and len(batch) > 1:
                    for answer in batch:  # one of them is at fault; each alone
                        self._deliver([answer])
                    return
                if not refused.may_pass():
                    again = self._settle(batch[0], {"code": refused.code, "detail": refused.detail})
            except OSError as error:
                trouble, again = error, batch
            same, batch = any(answer in batch for answer in again), again
            if not same:
                continue
            if not away.wait(trouble, self._over):
                return
        away.well()

    def _settle(self, answer: _Answer, outcome: dict[str, Any]) -> list[_Answer]:
        """What has to be sent after this outcome: nothing, the same again, or something else."""
        code, task = outcome.get("code"), answer.task
        if not outcome.get("accepted"):
            if code in _PASSING:
                return [answer]
            known = code in ("superseded", "unknown-task")
            instead = None if known else answer.instead(str(code), str(outcome.get("detail")))
            name = f"{task.activity} of {task.workflow_id}, attempt {task.attempt}"
            _log.warning("the host does not take the answer for %s: %s", name, code)
            if instead is not None:
                return [instead]
        self._done(task)
        return []

    # --- heartbeats that were held back

    def _beat_later(self, at: float, task: Task) -> None:
        with self._due:
            heapq.heappush(self._beats, (at, next(self._numbers), task))
            self._due.notify()

    def _beat_tasks(self) -> None:
        while not self._over.is_set():
            with self._due:
                now = time.monotonic()
                if not self._beats or self._beats[0][0] > now:
                    self._due.wait(self._beats[0][0] - now if self._beats else 60.0)
                    continue
                task = heapq.heappop(self._beats)[2]
            task._flush()
