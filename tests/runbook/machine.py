"""A machine as the runbook knows it, all under one directory: paths, a shell to paste into, and two services.

The paths of the text (`/var/lib/continuum`, `/var/backups`, `/etc/continuum`, `/tmp` ...) are mapped to the directory when a
block is pasted. `systemctl` starts and stops real processes: `continuum` is the sample writer, which commits as the service
does; `continuum-backup` is the stack of broker, workers and beat.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Any

from continuum_tasks.config import Config, load_config
from tests.runbook.shell import Pasted, Shell
from tests.support.cli import call

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(__file__).resolve().parent / "bin"
SHIMS = ("aws", "chown", "clamscan", "fuser", "lvextend", "pytest", "resize2fs", "systemctl", "tail", "terraform")
ONLY_IF_MISSING = ("jq", "sqlite3")
START_SECONDS, STOP_SECONDS = 600.0, 300.0
_PATHS = re.compile(r"(?<![\w./$}-])/(?=(?:var|etc|tmp|media|dev/vg)/)")
# PR_SET_PDEATHSIG (1): a service dies with the test run even when that is killed.
_TETHER = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"


@dataclass(slots=True, kw_only=True)
class Machine:
    """One host. `services` holds what runs on it now."""

    root: Path
    services: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    more: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Return where a path of the runbook is on this machine."""
        return self.root / name.lstrip("/")

    @property
    def database(self) -> Path:
        return self.path("/var/lib/continuum/memory.db")

    @property
    def config(self) -> Config:
        return load_config(self.path("/etc/continuum"), environment={})

    def mapped(self, text: str) -> str:
        """Return the text with its paths as they are on this machine."""
        return _PATHS.sub(lambda _: f"{self.root}/", text)

    def environment(self) -> dict[str, str]:
        quiet = {name: value for name, value in os.environ.items() if not name.startswith(("CONTINUUM_", "AWS_"))}
        return {
            **quiet,
            "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}".rstrip(":"),
            "CONTINUUM_CONFIG_DIR": str(self.path("/etc/continuum")),
            "MACHINE_SOCKET": str(self.root / "pid1"),
            "MACHINE_LOG": str(self.root / "commands.log"),
            "TMPDIR": str(self.path("/tmp")),
            **self.more,
        }

    def run(self, *words: str, code: int | None = 0) -> Pasted:
        """Run one command of ours; its exit code is `code`, any when None."""
        done = call(*words, cwd=self.root, env=self.environment())
        assert code is None or done.code == code, (words, done)
        return Pasted(out=done.out, err=done.err, failed=())

    def json(self, *words: str, code: int | None = 0) -> Any:
        return json.loads(self.run(*words, "--format", "json", code=code).out)

    def create(self, strategy: str = "full") -> str:
        return str(self.json("backup", "create", "--strategy", strategy)["backup_id"])

    def edit(self, name: str, changes: Mapping[str, str]) -> None:
        """Set keys of a .conf file, whatever section they are in."""
        path = self.path("/etc/continuum") / name
        text = path.read_text(encoding="utf-8")
        for key, value in changes.items():
            text, n = re.subn(rf"^{key} =.*$", f"{key} = {value}", text, flags=re.MULTILINE)
            assert n == 1, key
        path.write_text(text, encoding="utf-8")

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run SQL on the live database as some other program would."""
        with closing(sqlite3.connect(self.database, timeout=30, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    def commands(self) -> list[str]:
        """Return what was asked of programs that this machine only pretends to have, oldest first."""
        log = self.root / "commands.log"
        return log.read_text().splitlines() if log.exists() else []

    @contextmanager
    def shell(self) -> Iterator[Shell]:
        """Open a shell to paste blocks into, with the paths of the text mapped."""
        with Shell.opened(cwd=self.path("/tmp"), environment=self.environment(), mapped=self.mapped) as shell:
            yield shell

    # what `systemctl` does here

    def start(self, name: str) -> str:
        if self.is_active(name):
            return ""
        if name == "continuum":
            words = ["continuum_tasks.sample", "write", str(self.database), "--forever", "--rate", "20"]
            words += ["--commits-log", str(self.root / "commits.log")]
        else:
            words = ["workers.stack", "--config-dir", str(self.path("/etc/continuum"))]
        self.services[name] = process = subprocess.Popen(
            [sys.executable, "-c", _TETHER, sys.executable, "-m", *words],
            cwd=self.root,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self._await_commits(process) if name == "continuum" else _await_ready(process)

    def _await_commits(self, process: subprocess.Popen[str]) -> str:
        log = self.root / "commits.log"
        before = log.stat().st_size if log.exists() else 0
        deadline = time.monotonic() + START_SECONDS
        while not log.exists() or log.stat().st_size < before + 200:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                return process.communicate()[0]
            time.sleep(0.05)
        return ""

    def stop(self, name: str) -> str:
        process = self.services.pop(name, None)
        if process is not None:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                return f"{name} did not stop in {STOP_SECONDS} s"
        return ""

    def is_active(self, name: str) -> bool:
        return name in self.services and self.services[name].poll() is None


def _await_ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines = []
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    for line in process.stdout:
        lines.append(line)
        if line == "ready\n":
            watchdog.cancel()
            return ""
    watchdog.cancel()
    return "".join(lines)


@contextmanager
def running(root: Path, **more: str) -> Iterator[Machine]:
    """Make a machine with directories, programs and an init, but without configuration or data; stops its services."""
    machine = Machine(root=root, more=more)
    for name in ("/var/lib/continuum", "/var/log/continuum", "/var/log/audit", "/var/backups", "/etc", "/tmp", "/media/usb"):
        machine.path(name).mkdir(parents=True, mode=0o700)
    machine.path("/var/log/audit/audit.log").write_text("type=LOGIN\n")
    _fill_bin(root / "bin")
    listener = socket.socket(socket.AF_UNIX)
    with contextmanager(_in_directory)(root):  # a socket's path may have 107 bytes
        listener.bind("pid1")
    listener.listen()
    serving = threading.Thread(target=_serve, args=(machine, listener), daemon=True)
    serving.start()
    try:
        yield machine
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        serving.join(10)
        for name in list(machine.services):
            machine.stop(name)


def _in_directory(path: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


def _fill_bin(place: Path) -> None:
    place.mkdir()
    missing = [name for name in ONLY_IF_MISSING if os.environ.get("RUNBOOK_SHIMS") or not which(name)]
    for name in (*SHIMS, *missing):
        # not sqlite3.py: a script's directory comes first when it imports
        own = BIN / {"sqlite3": "sqlite3_shell.py"}.get(name, f"{name}.py")
        source = own if own.exists() else BIN / "pretend.py"
        _program(place / name, f'exec "{sys.executable}" "{source}" {name} "$@"')
    _program(place / "continuum", f'exec "{sys.executable}" -m continuum_tasks.cli "$@"')


def _program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def _serve(machine: Machine, listener: socket.socket) -> None:
    # One thread for as long as the machine runs: the kernel ties a service to the thread that started it.
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        with peer:
            verb, _, name = peer.recv(4096).decode().strip().partition(" ")
            peer.sendall(json.dumps(_systemctl(machine, verb, name)).encode())


def _systemctl(machine: Machine, verb: str, name: str) -> tuple[int, str]:
    if verb in ("stop", "restart") and (trouble := machine.stop(name)):
        return 1, trouble
    if verb in ("start", "restart"):
        trouble = machine.start(name)
        return (1, trouble) if trouble else (0, "")
    if verb == "status":
        active = machine.is_active(name)
        return (0, f"{name}.service: active (running)") if active else (3, f"{name}.service: inactive (dead)")
    return 0, ""


def ask(machine: Machine, verb: str, name: str) -> None:
    """Do as `systemctl VERB NAME` does."""
    with socket.socket(socket.AF_UNIX) as peer:
        with contextmanager(_in_directory)(machine.root):
            peer.connect("pid1")
        peer.sendall(f"{verb} {name}\n".encode())
        code, text = json.loads(peer.makefile().read())
    assert code == 0, text
