"""Become Flower, on a port of this machine alone: `python -m workers.web STATE_DIRECTORY PORT`, 0 = 5555 or a free one.

The port is chosen at every start, because another process may have taken it since the last.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from continuum_tasks.errors import BrokerError
from continuum_tasks.launch import own_command
from workers.broker import write_private

_USUAL_PORT = 5555
_LISTENING = "0A"


def port_record(state_dir: Path) -> Path:
    """Return the file that holds the port Flower was last started on."""
    return state_dir / "flower-port"


def listening_port(state_dir: Path, pid: int) -> int | None:
    """Return the port that process `pid` serves Flower on, or None while it does not."""
    try:
        port = int(port_record(state_dir).read_text(encoding="ascii"))
        ours = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    # Somebody else on the same port must not pass for us: the listening socket has to be one of this process.
    wanted = [row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == _LISTENING]
    return port if any(f"socket:[{inode}]" in ours for inode in wanted) else None


def main() -> None:
    """Choose the port, note it, and let Flower take over this process."""
    state_dir, wanted = Path(sys.argv[1]), int(sys.argv[2])
    port = wanted or _free_port()
    write_private(port_record(state_dir), str(port))
    # A configuration file of our own, because Flower would run a flowerconfig.py of the directory it starts in.
    conf = state_dir / "flower-conf.py"
    write_private(conf, "")
    # Read only: without it, whoever may look may also enqueue any task.
    options = ("--address=127.0.0.1", f"--port={port}", "--read_only=True", f"--conf={conf}", "--max_tasks=5000")
    os.execv(sys.executable, own_command("celery", "-A", "workers.app", "flower", *options))  # noqa: S606


def _free_port() -> int:
    for port in (_USUAL_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise BrokerError("flower: this machine has no free port")


if __name__ == "__main__":
    main()
