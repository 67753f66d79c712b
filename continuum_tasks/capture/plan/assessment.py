"""Decide how well the capture of one database does, and up to when its commits can be brought back. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from continuum_tasks.capture.plan.continuity import BYPASSED
from continuum_tasks.findings import Finding, Severity, critical, ok, warning
from continuum_tasks.history.chain import is_anomalous, usable
from continuum_tasks.history.timeline import Hole, since
from continuum_tasks.model import Backup
from continuum_tasks.units import instant, show_bytes, show_seconds

HOLES_SHOWN = timedelta(days=1)
SILENT = timedelta(seconds=60)  # its process says that it is alive every five seconds
BASE_WITHIN = timedelta(minutes=10)  # a backup follows a hole at once
LAGGING = timedelta(seconds=60)  # a commit is in the storage within two seconds
IDLE = timedelta(minutes=10)  # what rests is measured that often


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What this host knows of the capture of a database that is to be captured. Sizes in bytes, `_us` since 1970.

    `state` is its own word, empty when it never ran, `trouble` what fails although it runs; `running`: every commit is captured
    now; `journal`: it is in rollback-journal mode, and backed up when it changes; `fenced`: another writer has its timeline.
    Its process was last alive at `heard_at`. Of commits 1 to `commit`, the ones up to `durable_commit`, seen at `durable_us`,
    are in `storage`; there was none after `commit` until `watched_until_us`. `base_after`: no backup stands behind that resumed
    commit yet. `shipped_bytes` and `n_requests` are what the storage was sent since the process began.
    """

    state: str = ""
    detail: str = ""
    trouble: str = ""
    running: bool = False
    journal: bool = False
    fenced: bool = False
    heard_at: datetime | None = None
    storage: str = ""
    timeline: str = ""
    commit: int = 0
    durable_commit: int = 0
    durable_us: int = 0
    watched_until_us: int = 0
    lag_p50_seconds: float = 0.0
    lag_p95_seconds: float = 0.0
    wal_bytes: int = 0
    wal_alarm: bool = False
    spool_bytes: int = 0
    spool_segments: int = 0
    spool_limit_bytes: int = 0
    base_after: int = 0
    shipped_bytes: int = 0
    n_requests: int = 0
    holes: tuple[Hole, ...] = ()

    @property
    def all_durable(self) -> bool:
        """True when every commit that was captured is in the storage."""
        return 0 < self.commit == self.durable_commit and not self.spool_segments

    def is_behind(self, now: datetime) -> bool:
        """Tell whether commits wait on this host for longer than shipping takes."""
        return not self.all_durable and self.durable_us > 0 and now - instant(self.durable_us) > LAGGING

    def is_silent(self, now: datetime) -> bool:
        """Tell whether its process has not said for a while that it is alive: it hangs, or its disk does."""
        return self.heard_at is None or now - self.heard_at > SILENT

    def protects(self, now: datetime) -> bool:
        """Tell whether every commit is captured now."""
        return self.running and not self.is_silent(now)


def captured_until(capture: Capture, points: Sequence[Backup]) -> datetime | None:
    """Return the instant up to which every commit can be restored from the storage, None when capture gives none.

    `points` are the usable backups of the database: commits are written over one that stands on their timeline.
    """
    stands = any(
        backup.storage == capture.storage and backup.position is not None and backup.position.timeline == capture.timeline
        for backup in points
    )
    if not stands or capture.base_after or not capture.durable_us:
        return None
    return instant(max(capture.watched_until_us, capture.durable_us) if capture.all_durable else capture.durable_us)


def has_nothing_new(capture: Capture, backups: Sequence[Backup], *, now: datetime) -> bool:
    """Tell whether nothing was committed since the newest of these (newest first) was begun: an increment would be empty.

    One whose bytes are bad, or whose chain is, does not count; one that was suspect for what is in it does.
    """
    newest = next(iter(backups), None)
    if newest is None or not (is_anomalous(newest) or newest in usable(backups)):
        return False
    position = newest.position
    if position is None or not capture.protects(now) or newest.storage != capture.storage:
        return False
    return position.timeline == capture.timeline and position.commit == capture.commit and capture.all_durable


def measured(capture: Capture, *, now: datetime) -> tuple[tuple[str, str, float], ...]:
    """Return what is to be kept of a capture now, as (metric, quantile or empty, value); at rest only every ten minutes."""
    rests = (
        capture.all_durable and now - instant(capture.durable_us) > IDLE and not (_is_down(capture, now) or capture.wal_alarm)
    )
    return () if rests and now.minute % 10 else figures(capture, now=now)


def figures(capture: Capture, *, now: datetime) -> tuple[tuple[str, str, float], ...]:
    """Return what a capture says of itself, as (metric, quantile or empty, value)."""
    values = (
        ("capture_down", "", float(_is_down(capture, now))),
        ("capture_lag_seconds", "0.5", capture.lag_p50_seconds),
        ("capture_lag_seconds", "0.95", capture.lag_p95_seconds),
        ("capture_wal_bytes", "", float(capture.wal_bytes)),
        ("capture_spool_bytes", "", float(capture.spool_bytes)),
        ("capture_commits_total", "", float(capture.commit)),
        ("capture_stored_bytes", "", float(capture.shipped_bytes)),
        ("capture_requests", "", float(capture.n_requests)),
        ("capture_holes", "", float(len(since(capture.holes, now - HOLES_SHOWN)))),
    )
    return values if capture.state else values[:1]


def fresh(capture: Capture, *, now: datetime) -> tuple[tuple[str, str, float], ...]:
    """Return what is known of a capture now: of one that is down nothing but that, for its last words are of another time."""
    found = figures(capture, now=now)
    return found[:1] if _is_down(capture, now) else found


def _is_down(capture: Capture, now: datetime) -> bool:
    return not (capture.protects(now) or (capture.journal and not capture.is_silent(now)))


def capture_findings(database: str, capture: Capture, *, late: bool, now: datetime) -> Iterator[Finding]:
    """Judge the capture of one database; `late`: its recovery point is older than it may be."""
    subject = f"capture of {database}"
    if capture.fenced:
        hint = "stop the other host; to go on here on a timeline of its own: `continuum backup create --strategy continuous"
        yield critical(subject, f"stopped: {capture.detail}", f"{hint} --database {database}`")
    elif not (capture.running or capture.journal) or capture.is_silent(now):
        yield _down(subject, capture, late=late, now=now)
    else:
        yield _up(subject, capture, now=now)
    yield from _sizes(subject, capture)
    yield from _holes(database, capture, now=now)
    if capture.base_after and now - _resumed_at(capture) > BASE_WITHIN:
        age = show_seconds((now - _resumed_at(capture)).total_seconds())
        text = f"commit {capture.base_after} of {age} ago has no backup: what was committed since cannot be restored"
        hint = f"run `continuum backup create --database {database} --strategy incremental --force`"
        yield warning(subject, text, hint)


def _down(subject: str, capture: Capture, *, late: bool, now: datetime) -> Finding:
    severity = Severity.CRITICAL if late else Severity.WARNING
    if not capture.state:
        text, hint = "continuous = yes, but it never ran on this host", "start it: `continuum up`"
    elif capture.running or capture.journal:
        ago = "" if capture.heard_at is None else f" for {show_seconds((now - capture.heard_at).total_seconds())}"
        text = f"its process has not reported{ago}"
        hint = "does its disk hang? its own log is logs/capture.log in state_dir; start `continuum up` again"
    else:
        text = capture.state if capture.detail in ("", capture.state) else f"{capture.state}: {capture.detail}"
        hint = "is `continuum up` running? `continuum backup capture status` says more"
    behind = "; commits since are only in the database" if capture.commit else ""
    return Finding(severity=severity, subject=subject, text=f"{text}{behind}", hint=hint)


def _up(subject: str, capture: Capture, *, now: datetime) -> Finding:
    if capture.journal:
        return ok(subject, "rollback-journal mode: backed up when it changes; `continuum backup enable-wal` gives every commit")
    n_behind = capture.commit - capture.durable_commit
    if capture.is_behind(now):
        age = show_seconds((now - instant(capture.durable_us)).total_seconds())
        text = f"{n_behind:,} commits of the last {age} wait on this host: {capture.trouble or 'the storage is behind'}"
        return warning(subject, text, f"is storage {capture.storage} reachable? `continuum backup test-storage`")
    if capture.trouble:
        return warning(subject, f"it runs, but {capture.trouble}", "`continuum backup capture status` says more")
    lags = f"lag p50 {capture.lag_p50_seconds:.1f} s, p95 {capture.lag_p95_seconds:.1f} s"
    return ok(subject, f"every commit up to {capture.commit:,}, {lags}, log {show_bytes(capture.wal_bytes)}")


def _sizes(subject: str, capture: Capture) -> Iterator[Finding]:
    if capture.wal_alarm:
        text = f"the write-ahead log has {show_bytes(capture.wal_bytes)}, more than wal_alarm_bytes"
        hint = "end long read transactions of the service; above wal_limit_bytes capture releases the log, which makes a hole"
        yield warning(subject, text, hint)
    if capture.spool_limit_bytes < 2 * capture.spool_bytes:
        limit = show_bytes(capture.spool_limit_bytes)
        text = f"{show_bytes(capture.spool_bytes)} wait in the spool, more than half of spool_limit_bytes ({limit})"
        yield warning(subject, text, f"is storage {capture.storage} reachable? `continuum backup test-storage`")


def _holes(database: str, capture: Capture, *, now: datetime) -> Iterator[Finding]:
    found = since(capture.holes, now - HOLES_SHOWN)
    if not found:
        return
    last = found[0]
    edges = f"{_moment(last.begins_at)} and {_moment(last.ends_at)} UTC ({last.reason})"
    n = f"{len(found)} holes in the last 24 h, the last between" if len(found) > 1 else "hole in the last 24 h: between"
    text = f"{n} {edges}; commit {last.commit:,} is the first after it"
    hint = f"`continuum backup history --database {database}` shows all; a restore to a time inside is refused"
    severity = Severity.CRITICAL if any(BYPASSED in hole.reason for hole in found) else Severity.WARNING
    yield Finding(severity=severity, subject=f"holes of {database}", text=text, hint=hint)


def _resumed_at(capture: Capture) -> datetime:
    """Return since when no backup stands behind a resumed commit: its hole's end, else when the timeline began."""
    ends = [hole.ends_at for hole in capture.holes if (hole.timeline, hole.commit) == (capture.timeline, capture.base_after)]
    if ends:
        return max(ends)
    return datetime.strptime(capture.timeline[len("timeline-") :][:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"
