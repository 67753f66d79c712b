"""A TCP proxy on loopback that resets chosen connections after so many bytes, or never answers."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Proxy:
    """Forwards to a port. `cut_after`: per connection in order, the bytes that pass (both ways) before a reset; None = all."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self.cut_after: list[int | None] = []
        self.n_connections = 0
        self.n_resets = 0
        self.n_bytes_down = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        # shutdown wakes the accepting thread; close alone leaves it waiting
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            with self._lock:
                self.n_connections += 1
                budget = self.cut_after.pop(0) if self.cut_after else None
                self._open += [client, server]
            threading.Thread(target=self._forward, args=(client, server, budget), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket, budget: int | None) -> None:
        # One thread a connection: a close sends its RST only when no other thread waits on that socket.
        left = float("inf") if budget is None else budget
        with client, server, contextlib.suppress(OSError):
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is server:
                        self.n_bytes_down += len(data)
                    left -= len(data)
                    if left < 0:
                        self.n_resets += 1
                        # lingering for 0 seconds: the close that follows sends RST
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return
                    (server if source is client else client).sendall(data)


@contextmanager
def proxy_to(endpoint: str) -> Iterator[Proxy]:
    """Run a proxy before a server at `http://host:port`."""
    proxy = Proxy(int(endpoint.rpartition(":")[2]))
    try:
        yield proxy
    finally:
        proxy.close()
