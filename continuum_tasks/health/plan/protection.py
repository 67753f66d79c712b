"""Decide how well one database is protected: the age of what a restore would give, its chain, its verification. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from continuum_tasks.capture.plan.assessment import Capture, capture_findings, captured_until
from continuum_tasks.findings import Finding, Trouble, critical, ok, warning
from continuum_tasks.history.chain import holding, is_anomalous, usable
from continuum_tasks.model import Backup, BackupSchedule, BackupStatus, DrillRecord
from continuum_tasks.units import show_seconds

LATE = 1.25  # an interval may run over by a quarter
CLOCK_TOLERANCE = timedelta(seconds=60)
ANOMALY_SHOWN = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """One database's backups in all storages, newest first; `trouble`: its last usable one cannot be read now.

    `rehearsal` is its last drill or test restore, None when there was none; `capture` None = it is not to be captured.
    """

    database: str
    storage: str
    rhythm: BackupSchedule
    backups: tuple[Backup, ...]
    trouble: Trouble | None = None
    rehearsal: DrillRecord | None = None
    capture: Capture | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LastBackup:
    """The last usable backup of one database (None = there is none), and how far back a restore would go now.

    `captured_until` is the instant up to which every commit can be restored, where that is later than the backup's. The age,
    in seconds, is that of the later one; target 0 = no schedule. `readable` is False when its storage does not give the
    backup back now.
    """

    database: str
    backup: Backup | None
    age_seconds: int
    target_seconds: int
    readable: bool
    captured_until: datetime | None = None

    @property
    def point_at(self) -> datetime | None:
        """Return the recovery point: the latest state a restore would give."""
        return self.captured_until or (None if self.backup is None else self.backup.created_at)

    @property
    def late(self) -> bool:
        return self.backup is None or 0 < self.target_seconds < self.age_seconds


def recovery_points(backups: Sequence[Backup]) -> list[Backup]:
    """Return the usable backups of one database in the order given; a chain never crosses storages."""
    storages = {backup.storage for backup in backups}
    good = {(name, b.id) for name in storages for b in usable([b for b in backups if b.storage == name])}
    return [backup for backup in backups if (backup.storage, backup.id) in good]


def last_backup(protection: Protection, *, now: datetime) -> LastBackup:
    """Return how far back a restore would go: the snapshot instant of the last usable backup against its target.

    One stamped in the future (a clock that jumped back) counts only when there is no other: it would hide a silence.
    """
    points = recovery_points(protection.backups)
    past = [b for b in points if b.created_at <= now + CLOCK_TOLERANCE]
    last = next(iter(past or points), None)
    captured = None if protection.capture is None else captured_until(protection.capture, points)
    if captured is not None and last is not None and last.created_at >= captured:
        captured = None
    point = captured or (None if last is None else last.created_at)
    return LastBackup(
        database=protection.database,
        backup=last,
        age_seconds=0 if point is None else max(0, int((now - point).total_seconds())),
        target_seconds=target_seconds(protection.rhythm, continuous=protection.capture is not None),
        readable=last is not None and protection.trouble is None,
        captured_until=captured,
    )


def target_seconds(rhythm: BackupSchedule, *, continuous: bool) -> int:
    """Return how old the recovery point may be: the target that is set, 0 when nothing is scheduled or captured.

    Where backups are scheduled more rarely than the target, as with fulls alone, and nothing is captured, an interval and a
    quarter counts.
    """
    if continuous:
        return rhythm.rpo_target_seconds
    every = min((every for every in (rhythm.incremental_every_seconds, rhythm.full_every_seconds) if every), default=0)
    if not every:
        return 0
    return rhythm.rpo_target_seconds if every < rhythm.rpo_target_seconds else int(LATE * every)


def protection_findings(protection: Protection, *, now: datetime) -> Iterator[Finding]:
    """Judge age, chain and verification of one database's backups."""
    subject = f"database {protection.database}"
    last = last_backup(protection, now=now)
    yield age_finding(last, protection.storage)
    if protection.capture is not None:
        yield from capture_findings(protection.database, protection.capture, late=last.late, now=now)
    yield from _anomalies(protection, now=now)
    if last.backup is None:
        return
    newest = protection.backups[0]
    if newest.created_at > now + CLOCK_TOLERANCE:
        ahead = show_seconds((newest.created_at - now).total_seconds())
        yield warning(subject, f"{newest.id} was made {ahead} in the future", "correct the clock of this host or of the other")
    if protection.trouble is not None:
        yield critical(subject, protection.trouble.message, protection.trouble.hint)
    yield _chain(protection, now=now)
    yield _verified(protection, now=now)
    if protection.rehearsal is not None:
        yield _rehearsed(protection.rehearsal, now=now)


def age_finding(last: LastBackup, storage: str) -> Finding:
    """Judge the age of the last usable backup against its target."""
    subject = f"database {last.database}"
    create = f"continuum backup create --database {last.database}"
    if last.backup is None:
        return critical(subject, f"no usable backup in storage {storage} or any other", f"run `{create} --strategy full`")
    target = f"target {show_seconds(last.target_seconds)}" if last.target_seconds else "no schedule"
    text = f"last usable backup {last.backup.id} is {show_seconds(last.age_seconds)} old, {target}"
    if last.captured_until is not None:
        text = f"every commit up to {show_seconds(last.age_seconds)} ago can be restored, {target}"
    if not last.late:
        return ok(subject, text)
    if last.captured_until is not None:
        return critical(subject, text, "the finding about its capture says what it waits for; is the storage reachable?")
    return critical(subject, text, f"run `{create} --strategy incremental`; are the workers and beat running?")


def _anomalies(protection: Protection, *, now: datetime) -> Iterator[Finding]:
    """Say what is not like before: critical while no clean backup came after it, a warning for some days afterwards."""
    subject = f"anomalies of {protection.database}"
    for storage in sorted({backup.storage for backup in protection.backups}):
        mine = [backup for backup in protection.backups if backup.storage == storage]
        found = holding(mine)
        past = [b for b in mine if is_anomalous(b) and now - b.created_at < ANOMALY_SHOWN]
        hint = "examine the database; if it is harmless: continuum backup accept {} --reason WHY; otherwise restore a clean one"
        if found:
            first = found[-1]
            text = f"since {first.id} in storage {storage}: {'; '.join(first.suspect_reasons)}"
            yield critical(subject, text, hint.format(found[0].id))
        elif past:
            text = f"{past[0].id} in storage {storage}: {'; '.join(past[0].suspect_reasons)}; clean ones came after it"
            yield warning(subject, text, "if you know why, release what is on hold; `continuum backup info` shows more")


def _rehearsed(last: DrillRecord, *, now: datetime) -> Finding:
    subject = f"{last.kind} of {last.database}"
    ago = f"{show_seconds(max(0.0, (now - last.at).total_seconds()))} ago, {last.backup_id}"
    if last.passed:
        return ok(subject, f"last one {ago}: ready after {show_seconds(last.rto_seconds)}")
    hint = f"run `continuum backup {last.kind} {last.backup_id}`"
    return warning(subject, f"last one {ago}: failed: {'; '.join(last.findings)}", hint)


def _chain(protection: Protection, *, now: datetime) -> Finding:
    subject = f"chain of {protection.database}"
    points = recovery_points(protection.backups)
    newest = protection.backups[0]
    if newest is not points[0]:
        n = protection.backups.index(points[0])
        text = f"not usable: {newest.id} ({_why(newest)}){f' and {n - 1} more' if n > 1 else ''}, newer than {points[0].id}"
        return warning(subject, text, "the next backup builds on the last usable one; check the source and the storage")
    full = next(b for b in points if b.parent_id is None)  # a usable chain has its full among the usable
    age = max(0.0, (now - full.created_at).total_seconds())
    text = f"usable, last full {show_seconds(age)} ago"
    if protection.rhythm.full_every_seconds and age > LATE * protection.rhythm.full_every_seconds:
        every = show_seconds(protection.rhythm.full_every_seconds)
        create = f"continuum backup create --database {protection.database} --strategy full"
        return warning(subject, f"{text}, due every {every}", f"run `{create}`")
    return ok(subject, text)


def _why(backup: Backup) -> str:
    if backup.status is BackupStatus.SUSPECT:
        return f"suspect: {backup.suspect_reasons[0]}" if backup.suspect_reasons else "suspect"
    failed = backup.failed_at is not None and not backup.verified
    return "its verification failed" if failed else "a link of its chain is missing or bad"


def _verified(protection: Protection, *, now: datetime) -> Finding:
    subject = f"verification of {protection.database}"
    hint = f"run `continuum backup verify {protection.backups[0].id}`; is the verify pool running?"
    allowed = LATE * protection.rhythm.verify_every_seconds
    latest = now + CLOCK_TOLERANCE
    verdicts = [
        b.verified_at for b in protection.backups if b.verified and b.verified_at is not None and b.verified_at <= latest
    ]
    if verdicts:
        age = max(0.0, (now - max(verdicts)).total_seconds())
        text = f"last verified backup {show_seconds(age)} ago"
        return warning(subject, text, hint) if 0 < allowed < age else ok(subject, text)
    oldest = (now - protection.backups[-1].created_at).total_seconds()
    if 0 < allowed < oldest:
        return warning(subject, "no backup was ever verified", hint)
    return ok(subject, "no backup verified yet")
