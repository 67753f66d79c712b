"""Every section and key of the three files, once: what is read, what is written, and what the documents must name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from continuum_tasks.config import values
from continuum_tasks.config.lines import Section, quoted_text, suggestion
from continuum_tasks.config.settings import Check, ChecksumMode, StorageType
from continuum_tasks.config.values import ValueKind
from continuum_tasks.errors import ConfigError
from continuum_tasks.model import Cipher, Codec

HOUR, DAY = 3_600, 86_400
CENTURY = 36_500 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingKey:
    """One key: its kind, its note for readers of the file, and the field it fills (its own name unless given).

    A key that is not required and not in the file leaves its field to the dataclass default. `restart`: processes that run
    keep the value they began with; all others are read again by the next command and the next task.
    """

    name: str
    kind: ValueKind[Any]
    note: str
    field: str = ""
    required: bool = False
    secret: bool = False
    restart: bool = False

    @property
    def target(self) -> str:
        return self.field or self.name


CONTINUUM = (
    SettingKey(name="state_dir", kind=values.path_setting(), note="metadata.db, locks and the embedded broker", restart=True),
    SettingKey(
        name="temp_dir", kind=values.path_setting(), note="staging copies: needs as much free space as the largest database"
    ),
    SettingKey(name="log_file", kind=values.path_setting(), note="what was done, one JSON object a line", restart=True),
    SettingKey(name="keys_dir", kind=values.path_setting(), note="one file per encryption key; keep it out of every storage"),
    SettingKey(
        name="host",
        restart=True,
        kind=values.or_empty(values.matching(values.HOST.pattern, "1 to 63 of a-z, 0-9, '.', '_' and '-'")),
        note="this machine's name in queues and verdicts; empty = its host name",
    ),
    SettingKey(
        name="default_database",
        kind=values.or_empty(values.database_name()),
        note="the database that commands mean when none is named; empty = the only one",
    ),
)

BACKUP = (
    SettingKey(name="compression_algorithm", kind=values.choice(Codec), note="zstd, lz4, gzip or none"),
    SettingKey(
        name="compression_level",
        kind=values.integer(0, 19),
        note="zstd 1 to 19, gzip 1 to 9, lz4 0 to 12; default: zstd 1, gzip 6, lz4 0",
    ),
    SettingKey(
        name="encryption", kind=values.choice(Cipher), note="aes-256-gcm, or none: a reader of the storage reads everything"
    ),
    SettingKey(
        name="encryption_key_id",
        kind=values.matching(values.KEY_ID.pattern, values.KEY_ID_ALLOWED),
        note="the key new chains are made with; its file is <keys_dir>/<id>.key",
    ),
    SettingKey(
        name="chunk_bytes",
        kind=values.size_value(64 * 1024, 512 * 1024**2, multiple=64 * 1024),  # 64 KiB: the largest page SQLite has
        note="database bytes per stored object, 64K to 512M; memory is about this times the uploads at once",
    ),
    SettingKey(
        name="max_concurrent_uploads", kind=values.integer(1, 64), note="objects in flight at once, per process, 1 to 64"
    ),
    SettingKey(
        name="lease_seconds", kind=values.integer(5, HOUR), note="how long a worker may be silent before it loses its work"
    ),
    SettingKey(
        name="max_attempts", kind=values.integer(1, 100), note="how often a piece of work is tried before it counts as failed"
    ),
)

BROKER = (
    SettingKey(
        name="url",
        restart=True,
        kind=values.optional(values.broker_url_value()),
        secret=True,
        note="redis://, rediss:// or redis+socket://; empty = the embedded broker under state_dir",
    ),
    SettingKey(
        name="result_url",
        restart=True,
        kind=values.optional(values.broker_url_value()),
        secret=True,
        note="where results are kept; empty = with the broker",
    ),
)

WORKERS = (
    SettingKey(name="agent", kind=values.integer(1, 64), note="snapshots and installs", restart=True),
    SettingKey(name="transfer", kind=values.integer(1, 64), note="chunks up and down", restart=True),
    SettingKey(name="verify", kind=values.integer(1, 64), note="verification and test restores", restart=True),
    SettingKey(name="control", kind=values.integer(1, 64), note="the timetable, health, reports", restart=True),
)

MIB = 1024**2
CAPTURE = (
    SettingKey(
        name="capture_interval",
        kind=values.duration_value(1, 60),
        field="interval_seconds",
        note="how often captured commits are made durable and shipped: what a disaster can lose",
        restart=True,
    ),
    SettingKey(
        name="segment_bytes",
        kind=values.size_value(MIB, 256 * MIB, multiple=MIB),
        note="captured bytes that are shipped at once, without waiting for the interval; memory is a few times this",
        restart=True,
    ),
    SettingKey(
        name="wal_alarm_bytes",
        kind=values.size_value(16 * MIB, 1024**4, multiple=MIB),
        note="a -wal larger than this is an alarm: capture holds it until its commits are safe",
        restart=True,
    ),
    SettingKey(
        name="wal_limit_bytes",
        kind=values.size_value(64 * MIB, 1024**4, multiple=MIB),
        note="at this size capture releases the -wal, declares a hole and requests a backup",
        restart=True,
    ),
    SettingKey(
        name="spool_limit_bytes",
        kind=values.size_value(64 * MIB, 1024**4, multiple=MIB),
        note="captured and not yet shipped bytes of one database under state_dir; then a hole is declared",
        restart=True,
    ),
    SettingKey(
        name="proof_every",
        kind=values.duration_or_never(30 * 24 * HOUR),
        field="proof_every_seconds",
        note="how often all pages of a captured database are read and compared with what was captured",
        restart=True,
    ),
)

DATABASE = (
    SettingKey(name="path", kind=values.path_setting(), required=True, note="the live SQLite file"),
    SettingKey(
        name="storage",
        kind=values.or_empty(values.storage_name()),
        note="a [storage:NAME] of storage.conf; empty = its default",
    ),
    SettingKey(
        name="continuous",
        kind=values.boolean(),
        note="capture every commit while `continuum up` runs (WAL mode): yes or no",
    ),
    SettingKey(
        name="busy_timeout",
        kind=values.duration_value(0, HOUR),
        field="busy_timeout_seconds",
        note="how long to wait for a writer to finish",
    ),
    SettingKey(
        name="busy_window",
        kind=values.duration_value(1, HOUR),
        field="busy_window_seconds",
        note="how long a writer may have to wait for us (rollback-journal mode); CONTINUUM gives up after 5s",
    ),
    SettingKey(
        name="accept_file_system",
        kind=values.words(
            r"[a-z0-9][a-z0-9._-]{0,63}", "types of file systems such as nfs4, with commas between them, or empty"
        ),
        note="file systems that are refused or not known and that this database may lie on all the same; empty = none",
    ),
    SettingKey(name="check", kind=values.choice(Check), note="health check of each staged copy: quick, full or none"),
    SettingKey(
        name="count_rows",
        kind=values.boolean(),
        note="count the rows of each staged copy, to notice when many are gone: yes or no",
    ),
    SettingKey(
        name="min_interval",
        kind=values.duration_or_never(CENTURY),
        field="min_interval_seconds",
        note="a backup sooner after the last one is refused without --force; never = none is",
    ),
    SettingKey(
        name="full_every",
        kind=values.duration_or_never(CENTURY),
        field="full_every_seconds",
        note="a new chain; never = by hand",
    ),
    SettingKey(
        name="incremental_every",
        kind=values.duration_or_never(CENTURY),
        field="incremental_every_seconds",
        note="changed pages since the last backup; never = by hand",
    ),
    SettingKey(
        name="verify_every",
        kind=values.duration_or_never(CENTURY),
        field="verify_every_seconds",
        note="prove the newest backup by a test restore; never = by hand",
    ),
    SettingKey(
        name="test_restore_every",
        kind=values.duration_or_never(CENTURY),
        field="test_restore_every_seconds",
        note="restore the newest backup to scratch and measure how long it takes; never = by hand",
    ),
    SettingKey(
        name="drill_every",
        kind=values.duration_or_never(CENTURY),
        field="drill_every_seconds",
        note="restore a random backup to scratch and run the checks of [drill]; never = by hand",
    ),
    SettingKey(
        name="rpo_target",
        kind=values.duration_value(1, CENTURY),
        field="rpo_target_seconds",
        note="the oldest the last usable backup may be before an alert; longer than incremental_every",
    ),
)

SQL_PREFIX = "sql."
DRILL = (
    SettingKey(
        name="drill_command",
        kind=values.or_empty(values.command_value()),
        note="run after each drill's restore, without a shell, the database's path in CONTINUUM_DRILL_DATABASE; empty = none",
    ),
    SettingKey(
        name="drill_directory",
        kind=values.optional(values.path_setting()),
        note="where drill_command starts; empty = the directory of this file",
    ),
    SettingKey(
        name="drill_time_limit",
        kind=values.duration_value(1, 7 * DAY),
        field="drill_time_limit_seconds",
        note="how long drill_command, and each question in SQL, may take before the drill has failed",
    ),
    SettingKey(
        name="drill_log",
        kind=values.optional(values.path_setting()),
        note="one line for each drill, SUCCESS or FAILED; empty = dr-drills.log beside log_file",
    ),
)

STORAGES = (
    SettingKey(
        name="default",
        kind=values.or_empty(values.storage_name()),
        note="the storage that commands mean when none is named; empty = the only one",
    ),
)

_TYPE = SettingKey(
    name="type", kind=values.choice(StorageType, StorageType.LOCAL, StorageType.S3), required=True, note="local or s3"
)
STORAGE: Mapping[StorageType, tuple[SettingKey, ...]] = {
    StorageType.LOCAL: (
        _TYPE,
        SettingKey(
            name="path", kind=values.path_setting(), required=True, note="a directory on another disk than the database"
        ),
    ),
    StorageType.S3: (
        _TYPE,
        SettingKey(name="bucket", kind=values.bucket(), required=True, note="must exist"),
        SettingKey(name="prefix", kind=values.prefix_value(), note="key parts in front of everything we store"),
        SettingKey(name="endpoint", kind=values.optional(values.endpoint()), note="http(s)://HOST[:PORT]; empty = AWS"),
        SettingKey(
            name="region",
            kind=values.optional(values.matching(r"[a-z0-9-]{1,64}", "a region such as us-west-2")),
            note="empty = what the S3 client finds",
        ),
        SettingKey(
            name="profile",
            kind=values.optional(values.matching(r"[^\[\]]{1,128}", "a profile name")),
            note="a profile of the credentials file; empty = the default one",
        ),
        SettingKey(
            name="credentials_file",
            kind=values.optional(values.path_setting()),
            note="an AWS credentials file; empty = environment, ~/.aws or the machine's role",
        ),
        SettingKey(
            name="checksum_mode",
            kind=values.choice(ChecksumMode),
            note="auto, required (for servers that refuse trailing checksums) or supported",
        ),
    ),
}

_COUNT = values.integer(0, 10_000)
RETENTION = (
    SettingKey(name="hourly", kind=_COUNT, note="the newest backup of this many hours"),
    SettingKey(name="daily", kind=_COUNT, note="... days"),
    SettingKey(name="weekly", kind=_COUNT, note="... ISO weeks"),
    SettingKey(name="monthly", kind=_COUNT, note="... months"),
    SettingKey(name="yearly", kind=_COUNT, note="... years"),
    SettingKey(
        name="keep_within",
        kind=values.duration_or_never(CENTURY),
        field="keep_within_seconds",
        note="everything younger than this stays; never = no such rule",
    ),
    SettingKey(name="min_backups", kind=values.integer(1, 10_000), note="never fewer than this many, whatever else is set"),
    SettingKey(
        name="max_age",
        kind=values.duration_or_never(CENTURY),
        field="max_age_seconds",
        note="nothing older than this stays; never = no such rule",
    ),
    SettingKey(
        name="grace_period",
        kind=values.duration_or_never(CENTURY),
        field="grace_period_seconds",
        note="nothing younger than this expires, whatever the counts say; never = no grace",
    ),
    SettingKey(
        name="pitr_window",
        kind=values.duration_value(HOUR, CENTURY),
        field="pitr_window_seconds",
        note="every captured commit younger than this can be restored by itself",
    ),
    SettingKey(name="only_verified", kind=values.boolean(), note="count only verified backups: yes or no"),
    SettingKey(
        name="max_expire_per_run", kind=values.integer(1, 100_000), note="no run expires more than this; the next one continues"
    ),
    SettingKey(
        name="max_roll_forward_per_run",
        kind=values.integer(0, 1000),
        note="no run rewrites more backups than this as snapshot layers; 0 = links that kept backups need stay",
    ),
)

# Sections that may stand once each and, with None, sections that are named: [database:NAME], [storage:NAME]
FILES: Mapping[str, Mapping[str, tuple[SettingKey, ...] | None]] = {
    "backup.conf": {
        "continuum": CONTINUUM,
        "backup": BACKUP,
        "broker": BROKER,
        "workers": WORKERS,
        "capture": CAPTURE,
        "drill": DRILL,
        "database": None,
    },
    "storage.conf": {"storages": STORAGES, "storage": None},
    "retention.conf": {"retention": RETENTION},
}


def read_section(section: Section, keys: tuple[SettingKey, ...]) -> dict[str, Any]:
    """Return the section's values by field. Raises ConfigError naming file and line: unknown, missing or bad."""
    known = {key.name: key for key in keys}
    for name, entry in section.entries.items():
        if name not in known:
            hint = suggestion(name, known)
            raise ConfigError(f"{entry.place}: unknown key {quoted_text(name)} in {section.title}", hint=hint)
    for key in keys:
        if key.required and key.name not in section.entries:
            raise ConfigError(
                f"{section.place}: {section.title} lacks {key.name!r}", hint=f"add {key.name} = {key.kind.allowed}"
            )
    return {known[name].target: read_value(section, known[name]) for name in section.entries}


def read_value(section: Section, key: SettingKey) -> Any:
    """Return one value that is in the section. Raises ConfigError with the bad text and what is allowed."""
    entry = section.entries[key.name]
    try:
        return key.kind.parse(entry.text)
    except ValueError as err:
        text = "(not shown)" if key.secret and entry.text else quoted_text(entry.text)
        message = f"{entry.place}: {section.title} {key.name} = {text} is not allowed"
        raise ConfigError(message, hint=f"allowed: {key.kind.allowed}") from (None if key.secret else err)
