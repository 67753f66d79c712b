"""What the three .conf files say, as frozen values. Sizes in bytes, durations in seconds; a duration of 0 = never or off."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from continuum_tasks.errors import UsageError
from continuum_tasks.model import BackupSchedule, Cipher, Codec

MIB = 1024 * 1024
DAY_SECONDS = 86_400

SYSTEM_DIRECTORY = Path("/etc/continuum")

# By measurement on 40 % embeddings: zstd 1 packs to 0.57 at 390 MB/s, zstd 3 to 0.53 at 290 MB/s, lz4 to 0.67 at 700 MB/s.
DEFAULT_LEVELS = {Codec.ZSTD: 1, Codec.LZ4: 0, Codec.GZIP: 6, Codec.NONE: 0}
LEVEL_RANGES = {Codec.ZSTD: (1, 19), Codec.LZ4: (0, 12), Codec.GZIP: (1, 9), Codec.NONE: (0, 19)}


class StorageType(StrEnum):
    """Where bytes rest; `memory` is for tests and is refused in a .conf file."""

    LOCAL = "local"
    S3 = "s3"
    MEMORY = "memory"


class ChecksumMode(StrEnum):
    """When S3 checksums are sent: as the server is known to take them, only where required, or wherever supported."""

    AUTO = "auto"
    REQUIRED = "required"
    SUPPORTED = "supported"


class Check(StrEnum):
    """Which health check a staged copy gets: quick_check, integrity_check or none."""

    QUICK = "quick"
    FULL = "full"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSettings:
    """How backups are made, on every database. `max_concurrent_uploads` is per process, `max_attempts` per job."""

    compression_algorithm: Codec = Codec.ZSTD
    compression_level: int = DEFAULT_LEVELS[Codec.ZSTD]
    encryption: Cipher = Cipher.AES_256_GCM
    encryption_key_id: str = "backup-key-v1"
    chunk_bytes: int = 32 * MIB
    max_concurrent_uploads: int = 4
    lease_seconds: int = 60
    max_attempts: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """Where tasks travel. `url` None = the embedded broker under the state directory; `result_url` None = as `url`."""

    url: str | None = field(default=None, repr=False)  # may carry a password
    result_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """How many tasks each pool of this host runs at once."""

    agent: int = 2
    transfer: int = 4
    verify: int = 1
    control: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureSettings:
    """How commits are captured: how often they are made durable, and how much of the disk that may take meanwhile."""

    interval_seconds: int = 1
    segment_bytes: int = 16 * MIB
    wal_alarm_bytes: int = 256 * MIB
    wal_limit_bytes: int = 1024 * MIB
    spool_limit_bytes: int = 4096 * MIB
    proof_every_seconds: int = 20 * 3600  # a day less the time it may wait and take


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseConfig:
    """One live database: its file, the name of its storage, how long we may wait and hold, and its timetable."""

    name: str
    path: Path
    storage: str
    continuous: bool = False
    busy_timeout_seconds: int = 5
    busy_window_seconds: int = 4  # CONTINUUM's writers give up after 5 s
    accept_file_system: tuple[str, ...] = ()
    check: Check = Check.QUICK
    count_rows: bool = True
    min_interval_seconds: int = 0  # a run by hand is never refused for being soon, unless somebody asked for it
    full_every_seconds: int = 7 * DAY_SECONDS
    incremental_every_seconds: int = 4 * 60  # the runbook's alert is 5 minutes
    verify_every_seconds: int = DAY_SECONDS
    test_restore_every_seconds: int = 7 * DAY_SECONDS
    drill_every_seconds: int = 30 * DAY_SECONDS
    rpo_target_seconds: int = 5 * 60

    @property
    def rhythm(self) -> BackupSchedule:
        """Return how often this database wants what."""
        return BackupSchedule(
            full_every_seconds=self.full_every_seconds,
            incremental_every_seconds=self.incremental_every_seconds,
            verify_every_seconds=self.verify_every_seconds,
            test_restore_every_seconds=self.test_restore_every_seconds,
            drill_every_seconds=self.drill_every_seconds,
            rpo_target_seconds=self.rpo_target_seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """A question about a restored database that must be answered yes; `database` is empty when it is put to all of them."""

    name: str
    database: str
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillSettings:
    """The operator's own checks of a restored database: one command, run without a shell, and questions in SQL.

    `drill_directory` None = the directory of the .conf files; `drill_log` None = dr-drills.log beside `log_file`.
    """

    drill_command: str = ""
    drill_directory: Path | None = None
    drill_time_limit_seconds: int = 3600
    drill_log: Path | None = None
    invariants: tuple[Invariant, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    """One storage: `path` for local; the rest for s3. None = what the S3 client finds by itself.

    `max_concurrent_uploads` comes from `[backup]`, so that whoever opens a storage has all it needs.
    """

    name: str
    type: StorageType
    path: Path | None = None
    bucket: str = ""
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    credentials_file: Path | None = None
    checksum_mode: ChecksumMode = ChecksumMode.AUTO
    max_concurrent_uploads: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    """What stays: so many of each period, everything younger than `keep_within`, never fewer than `min_backups`."""

    hourly: int = 24
    daily: int = 7
    weekly: int = 4
    monthly: int = 12
    yearly: int = 0
    keep_within_seconds: int = 0
    min_backups: int = 3
    max_age_seconds: int = 0
    grace_period_seconds: int = 7 * DAY_SECONDS
    pitr_window_seconds: int = 7 * DAY_SECONDS
    only_verified: bool = True
    max_expire_per_run: int = 1000
    max_roll_forward_per_run: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything the .conf files of `directory` say. `host` names this machine in queues and verdicts."""

    directory: Path
    state_dir: Path
    temp_dir: Path
    log_file: Path
    keys_dir: Path
    host: str
    default_database: str
    default_storage: str
    databases: tuple[DatabaseConfig, ...]
    storages: tuple[StorageConfig, ...]
    backup: BackupSettings = BackupSettings()
    broker: BrokerSettings = BrokerSettings()
    workers: WorkerSettings = WorkerSettings()
    capture: CaptureSettings = CaptureSettings()
    retention: RetentionSettings = RetentionSettings()
    drill: DrillSettings = DrillSettings()

    @property
    def drill_log(self) -> Path:
        """Return the file that gets one line for each drill."""
        return self.drill.drill_log or self.log_file.with_name("dr-drills.log")

    def database(self, name: str) -> DatabaseConfig:
        """Return the database of that name; an empty name is the default one. Raises UsageError."""
        wanted = name or self.default_database
        for database in self.databases:
            if database.name == wanted:
                return database
        names = ", ".join(d.name for d in self.databases)
        raise UsageError(f"database {wanted!r} is not declared in {self.directory / 'backup.conf'}", hint=f"declared: {names}")

    def storage(self, name: str) -> StorageConfig:
        """Return the storage of that name; an empty name is the default one. Raises UsageError."""
        wanted = name or self.default_storage
        for storage in self.storages:
            if storage.name == wanted:
                return storage
        names = ", ".join(s.name for s in self.storages)
        raise UsageError(f"storage {wanted!r} is not declared in {self.directory / 'storage.conf'}", hint=f"declared: {names}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultPaths:
    """Where things live unless backup.conf says otherwise."""

    state_dir: Path
    temp_dir: Path
    log_file: Path
    keys_dir: Path


def default_paths(directory: Path) -> DefaultPaths:
    """Return the runbook's paths for /etc/continuum, and paths under `directory` for any other, so a sandbox stays one."""
    if directory == SYSTEM_DIRECTORY:
        return DefaultPaths(
            state_dir=Path("/var/lib/continuum/backups"),
            temp_dir=Path("/tmp/continuum-backup"),  # noqa: S108 (the runbook's path; staging makes private directories in it)
            log_file=Path("/var/log/continuum/backup.log"),
            keys_dir=directory / "keys",
        )
    return DefaultPaths(
        state_dir=directory / "state",
        temp_dir=directory / "tmp",
        log_file=directory / "log" / "backup.log",
        keys_dir=directory / "keys",
    )
