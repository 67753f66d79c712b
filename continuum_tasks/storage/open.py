"""From a storage's settings to the storage, with retries around it."""

from __future__ import annotations

from continuum_tasks.config.settings import StorageConfig, StorageType
from continuum_tasks.errors import ConfigError
from continuum_tasks.storage.local import LocalStorage
from continuum_tasks.storage.memory import MemoryStorage
from continuum_tasks.storage.protocol import Storage
from continuum_tasks.storage.retrying import Retrying, RetryPolicy


def open_storage(config: StorageConfig) -> Storage:
    """Return the storage `config` describes; nothing is read or sent yet. Raises ConfigError.

    A `memory` storage is a new, empty one each time.
    """
    return Retrying(_open(config), RetryPolicy())


def _open(config: StorageConfig) -> Storage:
    if config.type is StorageType.S3:
        return _open_s3(config)
    if config.type is StorageType.MEMORY:
        return MemoryStorage(name=config.name)
    if config.path is None:
        raise ConfigError(f"storage {config.name}: path is not set", hint="set path in storage.conf")
    return LocalStorage(config.path, name=config.name)


def _open_s3(config: StorageConfig) -> Storage:
    # boto3 takes 170 ms to import: only who uses S3 pays.
    from continuum_tasks.storage.s3 import S3Settings, S3Storage

    return S3Storage(
        S3Settings(
            name=config.name,
            bucket=config.bucket,
            prefix=config.prefix,
            endpoint=config.endpoint,
            region=config.region,
            profile=config.profile,
            credentials_file=config.credentials_file,
            checksum_mode=config.checksum_mode,
            max_concurrent_uploads=config.max_concurrent_uploads,
        )
    )
