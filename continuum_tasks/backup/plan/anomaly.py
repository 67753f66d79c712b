"""Decide whether a new backup looks like the ones before it: verified is not clean. Pure; docs/ANOMALIES.md gives reasons.

A damaged page is found by checks; here what a perfectly valid database says when somebody encrypted, emptied or dropped
what was in it. Baselines are medians and minima of this database's own recent clean backups, so one odd backup moves
nothing; absolute floors keep small databases and first backups silent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from continuum_tasks.history.chain import usable
from continuum_tasks.model import ANOMALY, Backup, BackupId

FLOOR_BYTES = 2 * 1024 * 1024  # of the database: below this neither compression nor changed pages say anything
FLOOR_LAYER_BYTES = 512 * 1024  # of the pages stored
FLOOR_ROWS = 1000  # in the whole database: below this neither do rows
N_RECENT, N_FULLS = 8, 4

LARGE = 0.5  # a layer with this share of all pages is compared with fulls: it has the same mixture of pages
# Fulls of one database differ by 0.01 to 0.03 from one another; text encrypted in place moved them by 0.13.
WORSE, FLATTER, WORST_NOISE = 0.08, 0.5, 0.12
NOISY = 6 * 1.4826  # six standard deviations, estimated by the median absolute deviation
RANDOM, ORDINARY = 0.97, 0.90  # random bytes take 1.00 to 1.01 of their size, embeddings 0.75 to 0.93
OVERWRITTEN, MANY_OVERWRITTEN, FAR_WORSE = 0.02, 0.1, 0.1
MANY_TIMES, SUPPORT = 5, 0.05  # VACUUM rewrites every page too, but moves compression by less than this
LOST_SHARE, LOST_ROWS = 0.5, 500
LOST_TOTAL_SHARE, LOST_TOTAL_ROWS = 0.3, 1000
DROPPED_ROWS = 10
RENAMED = 0.9
SHRUNK_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """One way in which a backup is not like those before it; `text` has the numbers."""

    name: str
    text: str

    @property
    def reason(self) -> str:
        """The suspect reason it makes."""
        return f"{ANOMALY}{self.name}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedBackup:
    """One backup and the rows of its tables; no rows = they were not counted."""

    backup: Backup
    rows: Mapping[str, int] = field(default_factory=dict)

    @property
    def packed(self) -> float:
        """What its pages take, as a share of their raw size; 0 for no pages."""
        return self.backup.stored_size_bytes / self.backup.layer_size_bytes if self.backup.layer_size_bytes else 0.0

    @property
    def share(self) -> float:
        """The share of the database's pages that it stores."""
        return self.backup.layer_size_bytes / self.backup.original_size_bytes if self.backup.original_size_bytes else 0.0


def find_anomalies(new: CountedBackup, history: Sequence[CountedBackup]) -> tuple[Anomaly, ...]:
    """Compare a new backup with the clean ones before it, newest first (see `clean`); none means it is like them."""
    return (*_rows(new, history[:N_RECENT]), *_slow(new, history), *_pages(new, history))


def describe_comparison(new: CountedBackup, history: Sequence[CountedBackup]) -> str:
    """Say what is compared, in one line: this backup's numbers beside the usual ones."""
    fulls, like = _fulls(new, history), _like(new, history)
    usual = f"usual {_percent(median(one.packed for one in fulls))} in {len(fulls)} fulls" if fulls else "no full to compare"
    shares = f"usual {_percent(median(one.share for one in like))} in {len(like)}" if like else "nothing to compare"
    before = f"{sum(history[0].rows.values())} before" if history and history[0].rows else "not counted before"
    now = f"{sum(new.rows.values())} rows in {len(new.rows)} tables" if new.rows else "rows not counted"
    return f"pages take {_percent(new.packed)} ({usual}), {_percent(new.share)} of them stored ({shares}), {now} ({before})"


def clean(backups: Sequence[Backup], accepted: Collection[BackupId]) -> list[Backup]:
    """Return those of one database in one storage, newest first, that a new one is compared with.

    That is the usable ones since the last that was accepted: who accepts an anomaly says that this is the usual now.
    """
    good = usable(backups)
    last = next((number for number, backup in enumerate(good) if backup.id in accepted), len(good))
    return good[: last + 1]


def _rows(new: CountedBackup, recent: Sequence[CountedBackup]) -> Iterator[Anomaly]:
    """Rows and tables that were there in every one of the last backups: a table that comes and goes never alarms."""
    counted = [one.rows for one in recent if one.rows]
    if not counted:
        return
    if not new.rows:
        yield from _shrunk(new, recent)
        return
    if min(sum(rows.values()) for rows in counted) < FLOOR_ROWS:
        return
    steady = {table: min(rows[table] for rows in counted) for table in counted[0] if all(table in rows for rows in counted)}
    for table, least in steady.items():
        if table not in new.rows:
            if least >= DROPPED_ROWS and not _renamed(least, new.rows, counted[0]):
                yield Anomaly(name="table dropped", text=f"table {table} is gone; it had {counted[0][table]} rows")
        elif _lost(new.rows[table], least):
            yield Anomaly(name="rows lost", text=_loss(f"table {table}", new.rows[table], counted[0][table]))
    total, least = sum(new.rows.values()), min(sum(rows.values()) for rows in counted)
    if total < (1 - LOST_TOTAL_SHARE) * least and least - total >= LOST_TOTAL_ROWS:
        yield Anomaly(name="rows lost", text=_loss("all tables", total, sum(counted[0].values())))


def _slow(new: CountedBackup, history: Sequence[CountedBackup]) -> Iterator[Anomaly]:
    """Rows that went a few at a time: compared with each of the last fulls, where the last backups show nothing."""
    fulls = [one.rows for one in history if one.backup.is_snapshot and one.rows][:N_FULLS]
    recent = [one.rows for one in history[:N_RECENT] if one.rows]
    if len(fulls) < 2 or not new.rows:
        return
    for table, n in new.rows.items():
        least = min(rows.get(table, 0) for rows in fulls)
        if _lost(n, least) and not _lost(n, min((rows.get(table, 0) for rows in recent), default=0)):
            yield Anomaly(name="rows lost", text=f"{_loss(f'table {table}', n, fulls[0][table])} at the last full")


def _pages(new: CountedBackup, history: Sequence[CountedBackup]) -> Iterator[Anomaly]:
    if new.backup.original_size_bytes < FLOOR_BYTES or new.backup.layer_size_bytes < FLOOR_LAYER_BYTES:
        return
    fulls = _fulls(new, history)
    if fulls and new.share >= LARGE:
        yield from _large(new, history, fulls)
    elif fulls:
        yield from _small(new, history, [one.packed for one in (*fulls, *_like(new, history))])


def _small(new: CountedBackup, history: Sequence[CountedBackup], packed: Sequence[float]) -> Iterator[Anomaly]:
    """Ask whether pages that were there before have become what does not compress; what was added may be anything."""
    overwritten = _overwritten(new, history)
    share = overwritten / new.backup.original_size_bytes
    random = new.packed >= RANDOM and share >= OVERWRITTEN and median(packed) <= ORDINARY
    worse = new.packed > max(packed) + FAR_WORSE and share >= MANY_OVERWRITTEN
    if overwritten >= FLOOR_LAYER_BYTES and (random or worse):
        usual = f"usually {_percent(median(packed))}, at most {_percent(max(packed))}"
        text = f"the changed pages, {_percent(share)} of all, take {_percent(new.packed)} of their size, {usual}"
        yield Anomaly(name="incompressible pages", text=f"{text}: as if encrypted")


def _large(new: CountedBackup, history: Sequence[CountedBackup], fulls: Sequence[CountedBackup]) -> Iterator[Anomaly]:
    """Compare a layer of most pages with the fulls; then ask whether rewriting so much is usual, and looks like VACUUM."""
    packed = [one.packed for one in fulls]
    usual = median(packed)
    noise = min(WORST_NOISE, NOISY * median(abs(one - usual) for one in packed))
    text = f"pages take {_percent(new.packed)} of their size, usually {_percent(usual)}"
    if new.packed - usual > max(WORSE, noise):
        yield Anomaly(name="compression", text=f"{text}: as if encrypted")
    elif new.packed < FLATTER * usual:
        yield Anomaly(name="compression", text=f"{text}: as if overwritten with the same")
    elif not new.backup.is_snapshot and abs(new.packed - usual) > max(SUPPORT, noise):
        shares = [one.share for one in _like(new, history)]
        overwritten = _overwritten(new, history) / new.backup.original_size_bytes
        if len(shares) >= 3 and overwritten >= max(LARGE, MANY_TIMES * median(shares)):
            rewritten = f"{_percent(overwritten)} of the pages were rewritten, usually {_percent(median(shares))}"
            yield Anomaly(name="changed pages", text=f"{rewritten}, and {text}")


def _shrunk(new: CountedBackup, recent: Sequence[CountedBackup]) -> Iterator[Anomaly]:
    least = min(one.backup.original_size_bytes for one in recent)
    size_bytes = new.backup.original_size_bytes
    if least >= SHRUNK_BYTES and size_bytes < LOST_SHARE * least:
        yield Anomaly(name="size", text=f"the database has {size_bytes} bytes, of {least} before, and rows cannot be counted")


def _fulls(new: CountedBackup, history: Sequence[CountedBackup]) -> list[CountedBackup]:
    """Snapshot layers by the same codec of a database at least half as large: one that doubled is another mixture."""
    least = max(FLOOR_BYTES, new.backup.original_size_bytes // 2)
    return [
        one
        for one in history
        if one.backup.is_snapshot and one.backup.codec is new.backup.codec and one.backup.layer_size_bytes >= least
    ][:N_RECENT]


def _like(new: CountedBackup, history: Sequence[CountedBackup]) -> list[CountedBackup]:
    """Delta layers of the same strategy and codec that hold something, and not most pages."""
    return [
        one
        for one in history
        if not one.backup.is_snapshot
        and (one.backup.strategy, one.backup.codec) == (new.backup.strategy, new.backup.codec)
        and 0 < one.share < LARGE
    ][: 2 * N_RECENT]


def _overwritten(new: CountedBackup, history: Sequence[CountedBackup]) -> int:
    """Return how many bytes of stored pages are not the database's growth since the parent."""
    parent = next((one.backup for one in history if one.backup.id == new.backup.parent_id), None)
    growth = 0 if parent is None else max(0, new.backup.original_size_bytes - parent.original_size_bytes)
    return new.backup.layer_size_bytes - growth


def _lost(n: int, least: int) -> bool:
    return n < LOST_SHARE * least and least - n >= LOST_ROWS


def _renamed(n: int, rows: Mapping[str, int], before: Mapping[str, int]) -> bool:
    return any(RENAMED * n <= found for table, found in rows.items() if table not in before)


def _loss(what: str, n: int, before: int) -> str:
    return f"{what} lost {before - n} of {before} rows ({_percent((before - n) / before)})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.1f} %"
