"""The values everything speaks in: frozen, typed, without behaviour that does I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

DATABASE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
ANOMALY = "anomaly: "  # how a suspect reason begins that `backup.plan.anomaly` found, and that an acceptance lifts
_TIMELINE_ID = re.compile(r"timeline-\d{8}-\d{6}-[0-9a-f]{8}")
_BACKUP_ID = re.compile(r"backup-(full|differential|incremental)-(\d{8}-\d{6})((?:-[a-z0-9_]+)*)")


class Strategy(StrEnum):
    FULL = "full"
    DIFFERENTIAL = "differential"
    INCREMENTAL = "incremental"


class BackupStatus(StrEnum):
    COMPLETED = "completed"
    SUSPECT = "suspect"


class Level(StrEnum):
    """How deep a verification goes; each includes what the ones before it prove."""

    OBJECTS = "objects"
    PAGES = "pages"
    RESTORE = "restore"


class Rehearsal(StrEnum):
    """What a record is of: a test restore alone, or a drill, which also runs the operator's own checks."""

    TEST_RESTORE = "test-restore"
    DRILL = "drill"


class Codec(StrEnum):
    ZSTD = "zstd"
    LZ4 = "lz4"
    GZIP = "gzip"
    NONE = "none"


class Cipher(StrEnum):
    AES_256_GCM = "aes-256-gcm"
    NONE = "none"


class BackupId(str):
    """`backup-<strategy>-YYYYMMDD-HHMMSS` in UTC, then `-<database>` unless it is the default one, then `-2` on a collision.

    Raises ValueError for any other text, so an id can never carry a path.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> BackupId:
        if len(text) > 128 or not _BACKUP_ID.fullmatch(text):
            raise ValueError(f"{text!r} is not a backup id")
        return super().__new__(cls, text)

    @classmethod
    def make(cls, strategy: Strategy, at: datetime, *, suffix: str = "", n: int = 1) -> BackupId:
        """Build the id for a snapshot taken at `at`; `suffix` is the database's name, or empty for the default one."""
        tail = f"-{suffix}" if suffix else ""
        return cls(f"backup-{strategy}-{at.astimezone(UTC):%Y%m%d-%H%M%S}{tail}{f'-{n}' if n > 1 else ''}")


class TimelineId(str):
    """`timeline-YYYYMMDD-HHMMSS-<8 hex digits>` in UTC: when it began, and chance, so no two hosts make the same.

    Raises ValueError for any other text, so an id can never carry a path.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> TimelineId:
        if not _TIMELINE_ID.fullmatch(text):
            raise ValueError(f"{text[:80]!r} is not a timeline id")
        return super().__new__(cls, text)

    @classmethod
    def make(cls, at: datetime, *, chance: bytes) -> TimelineId:
        """Build the id of a timeline that begins at `at`; `chance` is 4 random bytes."""
        return cls(f"timeline-{at.astimezone(UTC):%Y%m%d-%H%M%S}-{chance.hex()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a backup stands on a timeline.

    It holds every commit up to `commit`. One that was copied from the live file may hold some of those up to `settled` too:
    with the pages of all commits from `commit` + 1 to N written over it, it is exactly the state after N, for N >= `settled`.
    """

    timeline: TimelineId
    commit: int
    settled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One SQLite transaction as it was captured. Times in microseconds since 1970 (UTC).

    `n_pages` is the database's size after it, `n_stored` how many pages of it are kept, `first_frame` and `last_frame` its
    frames in the source's WAL. It was first seen at `observed_us`; nobody had looked for `unseen_us` before that.
    `resumed`: no transaction, but the state found where capture began or went on: what was committed in `unseen_us` before
    it is a hole, frames are 0, and of its pages only some are kept, so it is restored from a backup that stands on it.
    """

    number: int
    n_pages: int
    n_stored: int
    first_frame: int
    last_frame: int
    observed_us: int
    unseen_us: int
    resumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far a WAL has been read: its salts (16 hex digits, as in the file), the last frame, and the checksum up to there."""

    salts: str
    frame: int
    checksum: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far long work has come. `n_bytes` of `total_bytes`; total 0 = not known yet.

    `note` is one line for who asked to see every step: what was decided, and why.
    """

    phase: str
    n_bytes: int = 0
    total_bytes: int = 0
    detail: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One sealed chunk as the manifest names it: SHA-256 is over the stored bytes, the index part can be range-read."""

    key: str
    size_bytes: int
    sha256: str
    n_pages: int
    index_offset: int
    index_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """One catalogued, restorable run. `created_at` is the snapshot instant; sizes in bytes.

    `original_size_bytes` is the database as it was, `layer_size_bytes` the raw bytes of the pages this backup stores,
    `stored_size_bytes` what they take in the storage, `compression_ratio` original / stored. `position` says where it stands
    on the timeline that was captured meanwhile, None when none was.
    """

    id: BackupId
    database: str
    storage: str
    strategy: Strategy
    status: BackupStatus
    created_at: datetime
    finished_at: datetime
    parent_id: BackupId | None
    base_id: BackupId
    page_size: int
    n_pages: int
    root: str
    original_size_bytes: int
    layer_size_bytes: int
    stored_size_bytes: int
    codec: Codec
    cipher: Cipher
    key_id: str
    host: str
    verified_at: datetime | None = None
    failed_at: datetime | None = None
    suspect_reasons: tuple[str, ...] = ()
    rolled_at: datetime | None = None
    position: Position | None = None

    @property
    def is_snapshot(self) -> bool:
        """True when its layer holds all pages: a full, or a backup that was rolled forward (then since `rolled_at`)."""
        return self.parent_id is None

    @property
    def verified(self) -> bool:
        """True when the newest `restore` level verdict is a pass and nothing has failed since."""
        return self.verified_at is not None and (self.failed_at is None or self.failed_at < self.verified_at)

    @property
    def compression_ratio(self) -> float:
        return round(self.original_size_bytes / self.stored_size_bytes, 3) if self.stored_size_bytes else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """A stored verdict about one backup: who looked, how deep, when, how long, and what was found."""

    backup_id: BackupId
    level: Level
    passed: bool
    at: datetime
    duration_seconds: float
    host: str
    findings: tuple[str, ...] = ()
    schema_digest: str = ""
    row_counts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKey:
    """A data key sealed under a key of the keyring; every part is hex and safe to publish."""

    key_id: str
    fingerprint: str
    nonce: str
    ciphertext: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A line of history of one database on one host: who began it, when, why, and under which key its segments are sealed.

    `previous` is the line this host captured before, None for the first. That was followed until `followed_until_us`
    (microseconds since 1970; 0 = not known): until then it had no commit after its last.
    """

    id: TimelineId
    database: str
    host: str
    repository_id: str
    created_at: datetime
    page_size: int
    cipher: Cipher
    wrapped_key: WrappedKey | None
    previous: TimelineId | None
    reason: str
    followed_until_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseCost:
    """What one phase of a run took. Phases that overlap are each counted whole, so their sum may exceed the run."""

    phase: str
    seconds: float
    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """What a restore gives back besides pages: where the database was, its mode bits and owner, its journal mode."""

    path: str
    mode: int
    uid: int
    gid: int
    journal_mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The signed truth about one backup, stored beside its objects; a backup exists when its manifest does.

    `checked` is how SQLite checked the staged copy: quick, full or none.
    """

    repository_id: str
    backup: Backup
    source: SourceFacts
    wrapped_key: WrappedKey | None
    objects: tuple[StoredObject, ...]
    checked: str
    tool_version: str
    sqlite_version: str
    schema_digest: str = ""
    row_counts: tuple[tuple[str, int], ...] = ()
    profile: tuple[PhaseCost, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A backup that may not expire, whatever the policy says: who said so, when and why."""

    backup_id: BackupId
    reason: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """A backup that anomalies made suspect and that somebody who looked at it says is good: who, when and why."""

    backup_id: BackupId
    reason: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRecord:
    """One scheduled or asked-for test restore: how long each phase took, and whether everything held.

    `rto_seconds` is the time until the database was proven and ready; the operator's own checks come after it.
    """

    backup_id: BackupId
    database: str
    passed: bool
    at: datetime
    rto_seconds: float
    phases: tuple[PhaseCost, ...]
    findings: tuple[str, ...]
    host: str
    kind: Rehearsal = Rehearsal.DRILL


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRef:
    """Which commit: its number on its timeline."""

    timeline: TimelineId
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSchedule:
    """How often one database wants what, in seconds; 0 = never. `rpo_target_seconds`: the oldest its last backup may be."""

    full_every_seconds: int
    incremental_every_seconds: int
    verify_every_seconds: int
    test_restore_every_seconds: int = 0
    drill_every_seconds: int = 0
    rpo_target_seconds: int = 300
