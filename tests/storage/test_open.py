"""From settings to a working storage, and the probe over it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from continuum_tasks.config.settings import ChecksumMode, StorageConfig, StorageType
from continuum_tasks.errors import ConfigError
from continuum_tasks.storage.local import LocalStorage
from continuum_tasks.storage.memory import MemoryStorage
from continuum_tasks.storage.open import open_storage
from continuum_tasks.storage.probe import probe
from continuum_tasks.storage.protocol import Storage
from tests.support import servers
from tests.support.servers import S3Server


def test_a_local_storage_opens_at_its_path(tmp_path: Path) -> None:
    storage = open_storage(StorageConfig(name="nas", type=StorageType.LOCAL, path=tmp_path / "root"))
    storage.put("a/k", b"x")
    assert (tmp_path / "root" / "a" / "k").read_bytes() == b"x"


def test_a_local_storage_without_a_path_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="nas"):
        open_storage(StorageConfig(name="nas", type=StorageType.LOCAL))


def test_a_memory_storage_starts_empty() -> None:
    config = StorageConfig(name="m", type=StorageType.MEMORY)
    open_storage(config).put("k", b"x")
    assert list(open_storage(config).list()) == []


@pytest.mark.parametrize("mode", list(ChecksumMode))
def test_an_s3_storage_opens_from_every_setting(server: S3Server, tmp_path: Path, mode: ChecksumMode) -> None:
    config = StorageConfig(
        name="offsite",
        type=StorageType.S3,
        bucket=server.bucket,
        prefix=f"open/{mode}",
        endpoint=server.endpoint,
        region="us-east-1",
        credentials_file=server.write_credentials(tmp_path),
        checksum_mode=mode,
        max_concurrent_uploads=2,
    )
    storage = open_storage(config)
    storage.put("k", b"x")
    assert servers.open_client(server).get_object(Bucket=server.bucket, Key=f"open/{mode}/k")["Body"].read() == b"x"


def test_opening_a_storage_makes_nothing_and_asks_nobody(tmp_path: Path) -> None:
    open_storage(StorageConfig(name="nas", type=StorageType.LOCAL, path=tmp_path / "root"))
    endpoint = f"http://127.0.0.1:{servers.free_port()}"
    open_storage(StorageConfig(name="s3", type=StorageType.S3, bucket="b", endpoint=endpoint))
    assert list(tmp_path.iterdir()) == []


def test_who_uses_no_s3_does_not_pay_for_boto3() -> None:
    code = "import sys, continuum_tasks.storage.open; sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_probe_passes_on_every_storage_and_leaves_nothing(storage: Storage) -> None:
    report = probe(storage, name="s", monotonic=time.monotonic, size_bytes=18 * 1024 * 1024)
    assert [step.name for step in report.steps][:3] == ["capabilities", "write small", "read small"]
    assert report.upload_bytes_per_second > 0
    assert report.download_bytes_per_second > 0
    assert report.capabilities.conditional_put is ("rclone" not in repr(storage))
    assert list(storage.list()) == []


def test_every_storage_is_a_storage(tmp_path: Path) -> None:
    names = [name for name in vars(Storage) if not name.startswith("_")]
    assert sorted(names) == ["capabilities", "delete", "get", "list", "put", "stat"]
    for made in (LocalStorage(tmp_path), MemoryStorage(), open_storage(StorageConfig(name="m", type=StorageType.MEMORY))):
        assert all(callable(getattr(made, name)) for name in names)


def test_a_missing_server_names_the_make_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "MINISTACK", tmp_path / "none")
    monkeypatch.setattr(servers, "RCLONE", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="make tools"), servers.ministack(tmp_path):
        pass
    with pytest.raises(FileNotFoundError, match="make setup"), servers.rclone(tmp_path):
        pass
