"""The three .conf files and the frozen values they become."""

from continuum_tasks.config.load import find_config_directory, load_config
from continuum_tasks.config.render import render_config, write_config
from continuum_tasks.config.settings import (
    BackupSettings,
    BrokerSettings,
    CaptureSettings,
    Check,
    ChecksumMode,
    Config,
    DatabaseConfig,
    DrillSettings,
    Invariant,
    RetentionSettings,
    StorageConfig,
    StorageType,
    WorkerSettings,
    default_paths,
)
from continuum_tasks.config.url import is_s3, parse_storage_url

__all__ = [
    "BackupSettings",
    "BrokerSettings",
    "CaptureSettings",
    "Check",
    "ChecksumMode",
    "Config",
    "DatabaseConfig",
    "DrillSettings",
    "Invariant",
    "RetentionSettings",
    "StorageConfig",
    "StorageType",
    "WorkerSettings",
    "default_paths",
    "find_config_directory",
    "is_s3",
    "load_config",
    "parse_storage_url",
    "render_config",
    "write_config",
]
