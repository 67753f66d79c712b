"""What is listed once although it happened hundreds of times."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from continuum_tasks.report.plan.report import RetentionEvent
from continuum_tasks.report.plan.summary import decided, suspected
from tests.unit.report.plan.reports import expired
from tests.unit.retention.plan.rows import NOW, ago, identify


def decision(n: int, action: str = "expire", **changes: object) -> RetentionEvent:
    made = RetentionEvent(at=ago(minutes=n), action=action, subject=identify(n), outcome="done", detail="no rule keeps it")
    return replace(made, **changes)


def test_what_expired_on_one_day_for_one_reason_is_one_line_and_hides_no_hold() -> None:
    hold = decision(400, "hold", detail="incident")
    failed = decision(5, outcome="StorageUnreachable")

    found = decided([*(decision(n) for n in range(10, 310)), hold, failed])

    assert [(group.last.action, group.last.outcome, group.n) for group in found] == [
        ("expire", "StorageUnreachable", 1),
        ("expire", "done", 300),
        ("hold", "done", 1),
    ]
    assert found[1].last.at == ago(minutes=10)
    assert found[1].subject == f"300, the last {identify(10)}" and found[2].subject == identify(400)


def test_days_are_told_apart() -> None:
    assert [group.n for group in decided([decision(1), decision(2), decision(24 * 60)])] == [2, 1]


def test_suspects_in_a_row_for_the_same_kinds_of_reasons_are_one_line_with_the_newest_numbers() -> None:
    def suspect(minutes: int, reason: str, **changes: str) -> object:
        return expired(at=NOW - timedelta(minutes=minutes), suspect_reasons=(reason,), backup_id=f"b{minutes}", **changes)

    lost = [suspect(n, f"anomaly: rows lost: table messages lost {n} of 900 rows") for n in range(1, 23)]
    random = suspect(40, "anomaly: compression: pages take 100 %")
    elsewhere = suspect(10, "anomaly: rows lost: table messages lost 5 of 900 rows", storage="s3")

    found = suspected([*lost, elsewhere, random])

    assert [(group.subject, group.n) for group in found] == [("22, from b22 to b1", 22), ("b10", 1), ("b40", 1)]
    assert found[0].last.suspect_reasons == ("anomaly: rows lost: table messages lost 1 of 900 rows",)
    assert found[0].since == found[0].first.created_at < found[0].last.created_at


def test_what_expired_since_has_no_id() -> None:
    assert suspected([expired(at=NOW, suspect_reasons=("gone",))])[0].subject == "incremental, expired"


def test_nothing_is_nothing() -> None:
    assert decided([]) == () and suspected([]) == ()
