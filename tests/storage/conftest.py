from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from continuum_tasks.storage.local import LocalStorage
from continuum_tasks.storage.memory import MemoryStorage
from continuum_tasks.storage.protocol import Storage
from continuum_tasks.storage.s3 import S3Settings, S3Storage
from tests.support.servers import S3Server


@pytest.fixture(params=["ministack", "rclone"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def settings(server: S3Server, tmp_path: Path) -> S3Settings:
    return settings_for(server, tmp_path)


@pytest.fixture(params=["local", "memory", "s3-ministack", "s3-rclone"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return LocalStorage(tmp_path / "storage")
    if request.param == "memory":
        return MemoryStorage()
    return S3Storage(settings_for(request.getfixturevalue(request.param.removeprefix("s3-")), tmp_path))


def settings_for(server: S3Server, directory: Path, **changes: object) -> S3Settings:
    """Settings for a prefix of its own on `server`, with credentials from a file in `directory`."""
    given: dict[str, object] = {
        "name": server.kind,
        "bucket": server.bucket,
        "prefix": f"test-{uuid.uuid4().hex}",
        "endpoint": server.endpoint,
        "region": "us-east-1",
        "credentials_file": server.write_credentials(directory),
    }
    return S3Settings(**{**given, **changes})  # type: ignore[arg-type]
