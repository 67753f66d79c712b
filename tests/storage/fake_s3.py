"""A tiny S3 look-alike that answers as badly as told: what no real server may be made to do."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


@dataclass
class Behaviour:
    """`corrupt`: store one bit flipped, answer 200. `etag`: instead of the MD5. `answers`: (status, code) to give first."""

    corrupt: bool = False
    etag: str | None = None
    claims_condition_but_replaces: bool = False
    put_seconds: float = 0.0
    answers: list[tuple[int, str]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    running: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour: ClassVar[Behaviour]

    def do_PUT(self) -> None:
        b = self.behaviour
        data = self.rfile.read(int(self.headers["Content-Length"]))
        with b.lock:
            b.running += 1
            b.most_at_once = max(b.most_at_once, b.running)
        time.sleep(b.put_seconds)
        with b.lock:
            b.running -= 1
        if self._told():
            return
        if b.corrupt and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        taken = self.path in b.objects and self.headers.get("If-None-Match") == "*"
        if not taken or b.claims_condition_but_replaces:
            b.objects[self.path] = data
        if taken:
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        else:
            self._answer(200, etag=b.etag or hashlib.md5(data).hexdigest())

    def do_GET(self) -> None:
        if self._told():
            return
        data = self.behaviour.objects.get(self.path.partition("?")[0])
        if data is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self._answer(200, data)

    def do_DELETE(self) -> None:
        if not self._told():
            self.behaviour.objects.pop(self.path, None)
            self._answer(204)

    def _told(self) -> bool:
        if not self.behaviour.answers:
            return False
        status, code = self.behaviour.answers.pop(0)
        self._answer(status, f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode())
        return True

    def _answer(self, status: int, data: bytes = b"", *, etag: str = "x") -> None:
        self.send_response(status)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Last-Modified", "Wed, 01 Jan 2025 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def fake_s3(behaviour: Behaviour) -> Iterator[str]:
    """Serve until the end of the block; yields the endpoint."""
    handler = type("Handler", (_Handler,), {"behaviour": behaviour})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
