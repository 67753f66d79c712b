from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.backup.plan import anomaly
from continuum_tasks.backup.plan.anomaly import CountedBackup, clean, describe_comparison, find_anomalies
from continuum_tasks.findings import Severity
from continuum_tasks.health.plan.protection import Protection, protection_findings
from continuum_tasks.history.chain import holding, is_anomalous
from continuum_tasks.model import Backup, BackupSchedule, BackupStatus, Codec, Strategy
from tests.unit.retention.plan.rows import START, backup, histories, identify

PAGES = 10_000  # 40 MB
ROWS = {"messages": 5000, "entities": 2000, "tenants": 24}


def seen(
    n: int,
    *,
    share: float = 1.0,
    packed: float = 0.55,
    rows: Mapping[str, int] | None = None,
    n_pages: int = PAGES,
    **changes: Any,
) -> CountedBackup:
    """One backup: a full when it stores all pages, else an incremental on the one before."""
    raw = round(share * n_pages) * 4096
    parent = None if share == 1.0 else n - 1
    made = backup(
        n,
        parent=parent,
        n_pages=n_pages,
        original_size_bytes=n_pages * 4096,
        layer_size_bytes=raw,
        stored_size_bytes=round(packed * raw),
        **changes,
    )
    return CountedBackup(backup=made, rows=ROWS if rows is None else rows)


def past(*, increments: int = 6, share: float = 0.02, packed: float = 0.5) -> list[CountedBackup]:
    """A full and increments on it, newest first."""
    return [*(seen(n, share=share, packed=packed) for n in range(increments, 0, -1)), seen(0)]


def names(new: CountedBackup, history: list[CountedBackup]) -> list[str]:
    return [one.name for one in find_anomalies(new, history)]


def test_what_is_like_before_is_no_anomaly() -> None:
    assert find_anomalies(seen(7, share=0.03, packed=0.52), past()) == ()
    assert find_anomalies(seen(7, packed=0.57), past()) == ()


def test_the_first_backup_is_never_one() -> None:
    assert find_anomalies(seen(0, packed=1.0, rows={}), []) == ()


@pytest.mark.parametrize(("packed", "found"), [(0.62, []), (0.64, ["compression"]), (0.28, []), (0.27, ["compression"])])
def test_a_full_that_compresses_otherwise_than_fulls_do(packed: float, found: list[str]) -> None:
    assert names(seen(7, packed=packed), past()) == found


def test_fulls_that_vary_by_themselves_are_allowed_to_up_to_a_limit() -> None:
    restless = [seen(n, packed=packed) for n, packed in enumerate([0.5, 0.56, 0.54, 0.46, 0.5], start=1)]
    assert names(seen(9, packed=0.61), restless) == []
    assert names(seen(9, packed=0.63), restless) == ["compression"]


def test_fulls_by_another_codec_or_of_a_much_smaller_database_say_nothing() -> None:
    assert names(seen(7, packed=0.9, codec=Codec.NONE), past()) == []
    assert names(seen(7, packed=0.9, n_pages=3 * PAGES), past()) == []


def test_most_pages_rewritten_is_one_only_when_they_compress_otherwise_too() -> None:
    assert names(seen(7, share=0.95, packed=0.57), past()) == []  # VACUUM
    assert names(seen(7, share=0.95, packed=0.615), past()) == ["changed pages"]
    assert names(seen(7, share=0.95, packed=0.7), past()) == ["compression"]
    assert names(seen(7, share=0.95, packed=0.615), past(share=0.3)) == []  # five times the usual is more than all
    assert names(seen(7, share=0.95, packed=0.615), past(increments=2)) == []  # what is usual is not known yet


def test_pages_that_are_new_may_be_anything_pages_that_were_there_may_not() -> None:
    new = seen(7, share=0.2, packed=1.005)
    assert names(new, past()) == ["incompressible pages"]
    grown = past()
    grown[0] = seen(6, share=0.02, packed=0.5, n_pages=8000)
    assert names(new, grown) == []
    assert names(replace(new, backup=replace(new.backup, parent_id=identify(99))), past()) == ["incompressible pages"]


@pytest.mark.parametrize(
    ("share", "packed", "found"),
    [
        (0.02, 0.98, ["incompressible pages"]),
        (0.019, 0.98, []),
        (0.02, 0.96, []),
        (0.1, 0.66, ["incompressible pages"]),
        (0.1, 0.64, []),
        (0.09, 0.66, []),
    ],
)
def test_changed_pages_that_compress_worse_than_any_before(share: float, packed: float, found: list[str]) -> None:
    assert names(seen(7, share=share, packed=packed), past()) == found


def test_a_database_that_never_compressed_is_not_encrypted_now() -> None:
    dense = [*(seen(n, share=0.02, packed=0.99) for n in range(6, 0, -1)), seen(0, packed=0.98)]
    assert names(seen(7, share=0.3, packed=1.0), dense) == []


def test_small_databases_and_layers_and_those_without_a_full_are_not_judged_by_their_pages() -> None:
    small = [replace(one, backup=replace(one.backup, original_size_bytes=1 << 20)) for one in past()]
    new = seen(7, share=0.3, packed=1.0)
    assert names(replace(new, backup=replace(new.backup, original_size_bytes=1 << 20)), small) == []
    assert names(seen(7, share=0.01, packed=1.0), past()) == []
    assert names(seen(7, share=0.3, packed=1.0), past()[:-1]) == []
    assert names(seen(7, share=0.7, packed=1.0), past()[:-1]) == []


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ({**ROWS, "messages": 2500}, ["rows lost"]),  # a third of all
        ({**ROWS, "messages": 2499}, ["rows lost", "rows lost"]),
        ({**ROWS, "messages": 3000}, []),
        ({**ROWS, "entities": 900}, ["rows lost"]),
        ({**ROWS, "tenants": 0}, []),
        ({"messages": 5000, "entities": 2000}, ["table dropped"]),
        ({"messages": 5000, "entities": 2000, "tenants": 24, "feedback": 0}, []),
        ({"messages": 5000, "people": 1900, "tenants": 24}, []),
        ({"messages": 5000, "people": 1700, "tenants": 24}, ["table dropped"]),
    ],
)
def test_rows_and_tables_that_are_gone(rows: Mapping[str, int], found: list[str]) -> None:
    assert names(seen(7, share=0.03, packed=0.5, rows=rows), past()) == found


def test_the_numbers_are_in_the_text() -> None:
    lost, total = find_anomalies(seen(7, share=0.03, packed=0.5, rows={**ROWS, "messages": 500}), past())
    assert lost.reason == "anomaly: rows lost: table messages lost 4500 of 5000 rows (90 %)"
    assert total.text == "all tables lost 4500 of 7024 rows (64 %)"
    (dropped,) = find_anomalies(seen(7, share=0.03, packed=0.5, rows={"messages": 5000, "entities": 2000}), past())
    assert dropped.text == "table tenants is gone; it had 24 rows"


def test_a_table_that_comes_and_goes_or_is_emptied_now_and_then_is_none() -> None:
    history = past()
    history[3] = replace(history[3], rows={**ROWS, "entities": 100, "queue": 4000})
    history[0] = replace(history[0], rows={**ROWS, "queue": 4000})
    assert names(seen(7, share=0.03, packed=0.5, rows={**ROWS, "entities": 100}), history) == []


def test_rows_of_a_small_database_or_not_counted_before_are_not_judged() -> None:
    few = [replace(one, rows={"messages": 900}) for one in past()]
    assert names(seen(7, share=0.03, packed=0.5, rows={}), past(increments=0)) == []
    assert names(seen(7, share=0.03, packed=0.5, rows={"messages": 1}), few) == []
    assert names(seen(7, share=0.03, packed=0.5, rows={"messages": 1}), [replace(one, rows={}) for one in past()]) == []


def test_rows_that_went_a_few_at_a_time_show_against_the_fulls() -> None:
    fulls = [replace(seen(n), rows={**ROWS, "messages": 6000}) for n in (1, 0)]
    waning = [replace(seen(n, share=0.02, packed=0.5), rows={**ROWS, "messages": 3200}) for n in range(9, 1, -1)]
    new = seen(10, share=0.02, packed=0.5, rows={**ROWS, "messages": 2900})
    (found,) = find_anomalies(new, [*waning, *fulls])
    assert found.text == "table messages lost 3100 of 6000 rows (52 %) at the last full"
    assert find_anomalies(new, [*waning, fulls[0]]) == ()
    uncounted = [replace(one, rows={}) for one in waning]
    assert names(new, [*uncounted, *fulls]) == ["rows lost"]


def test_a_database_that_cannot_be_counted_is_judged_by_its_size() -> None:
    assert names(seen(7, rows={}, n_pages=4000), past()) == ["size"]
    assert names(seen(7, rows={}, n_pages=6000), past()) == []


def test_the_line_for_those_who_look_has_both_sides() -> None:
    assert describe_comparison(seen(7, share=0.03, packed=0.5), past()) == (
        "pages take 50 % (usual 55 % in 1 fulls), 3.0 % of them stored (usual 2.0 % in 6), 7024 rows in 3 tables (7024 before)"
    )
    empty = replace(seen(1).backup, layer_size_bytes=0, original_size_bytes=0, stored_size_bytes=0)
    assert describe_comparison(CountedBackup(backup=empty), []) == (
        "pages take 0 % (no full to compare), 0 % of them stored (nothing to compare), rows not counted (not counted before)"
    )


def test_history_is_what_is_usable_since_the_last_that_was_accepted() -> None:
    rows = [backup(n) for n in range(5, 0, -1)]
    rows[1] = replace(rows[1], status=BackupStatus.SUSPECT)
    assert [b.id for b in clean(rows, set())] == [identify(n) for n in (5, 3, 2, 1)]
    assert [b.id for b in clean(rows, {identify(2)})] == [identify(n) for n in (5, 3, 2)]
    assert clean([], {identify(2)}) == []


def test_an_anomaly_holds_until_a_clean_backup_comes_after_it() -> None:
    odd = {"status": BackupStatus.SUSPECT, "suspect_reasons": ("anomaly: rows lost: many",)}
    damaged = {"status": BackupStatus.SUSPECT, "suspect_reasons": ("row 1 missing",)}
    rows = [backup(5, **odd), backup(4, **damaged), backup(3, **odd), backup(2), backup(1, **odd)]
    assert [b.id for b in holding(rows)] == [identify(5), identify(3)]
    assert holding([backup(6), *rows]) == ()
    assert holding(rows[:2]) == (rows[0],)
    assert [is_anomalous(b) for b in rows] == [True, False, True, False, True]


@given(histories(), st.integers(0, 3))
def test_any_history_is_judged_without_an_error_and_only_by_what_is_clean(made: list[Any], n: int) -> None:
    rows = sorted(made, key=lambda b: b.created_at, reverse=True)
    history = clean(rows, {identify(n)})
    assert all(one.status is BackupStatus.COMPLETED for one in history)
    new = CountedBackup(backup=backup(50, strategy=Strategy.INCREMENTAL, parent=n))
    find_anomalies(new, [CountedBackup(backup=one) for one in history])
    describe_comparison(new, [CountedBackup(backup=one) for one in history])
    assert set(holding(rows)) <= set(rows)


def test_every_threshold_leaves_room_for_what_was_measured() -> None:
    assert anomaly.SUPPORT < anomaly.WORSE < anomaly.WORST_NOISE


def said(rows: list[Backup]) -> list[tuple[Severity, str]]:
    rhythm = BackupSchedule(full_every_seconds=0, incremental_every_seconds=0, verify_every_seconds=0)
    protection = Protection(database="memory", storage="local", rhythm=rhythm, backups=tuple(rows))
    found = protection_findings(protection, now=START + timedelta(hours=1))
    return [(one.severity, one.text) for one in found if one.subject == "anomalies of memory"]


def test_health_is_critical_while_an_anomaly_holds_then_warns_for_a_week_in_each_storage() -> None:
    odd: dict[str, Any] = {"status": BackupStatus.SUSPECT, "suspect_reasons": ("anomaly: rows lost: many",)}
    first, second = backup(2, **odd), backup(3, **odd)
    ((severity, text),) = said([second, first, backup(1)])
    assert severity is Severity.CRITICAL and text == f"since {first.id} in storage local: anomaly: rows lost: many"
    ((severity, text),) = said([backup(4), second, first, backup(1)])
    assert severity is Severity.WARNING and second.id in text
    old = replace(first, created_at=START - timedelta(days=8))
    assert said([backup(4), old]) == []
    elsewhere = [replace(one, storage="s3") for one in (backup(5), backup(4))]
    assert [severity for severity, _ in said([*elsewhere, first, backup(1)])] == [Severity.CRITICAL]
