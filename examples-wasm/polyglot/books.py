"""The activity `book` of the polyglot example: a URL that keeps books, one line a booking.

    python3 books.py PORT FILE [--lose-first]

A request may be a repetition: a booking is found again by its idempotency key, and answered as the first time. With
`--lose-first` the first answer of each booking is lost on purpose: the booking is made, and the connection closed.
Who calls is not verified here; docs/http-activities.md shows how.
"""

import http.server
import json
import socket
import sys
import threading

PORT, BOOKS, LOSE_FIRST = int(sys.argv[1]), sys.argv[2], "--lose-first" in sys.argv[3:]


def bookings() -> dict:
    """All bookings by idempotency key."""
    try:
        with open(BOOKS) as file:
            return {row["key"]: row for row in map(json.loads, file)}
    except FileNotFoundError:
        return {}


MADE, LOCK = bookings(), threading.Lock()


class Books(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        task = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = self.headers["idempotency-key"]
        if not key:
            return self.answer(400, {"code": "no-key", "message": "send an idempotency-key"})
        with LOCK:
            row = MADE.get(key)
            fresh = row is None
            if fresh:
                row = MADE[key] = {"number": len(MADE) + 1, "key": key, "order": task["input"]}
                with open(BOOKS, "a") as file:
                    file.write(json.dumps(row) + "\n")
        if fresh:
            if LOSE_FIRST:
                self.close_connection = True
                return self.connection.shutdown(socket.SHUT_RDWR)
        elif row["order"] != task["input"]:
            return self.answer(422, {"code": "key-reused", "message": "the key stands for another order"})
        self.answer(200, row["number"])

    def answer(self, status: int, body: object) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Books)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
