from __future__ import annotations

import pytest

from continuum_tasks.restore.rows.select import problem

GOOD = (
    "1",
    "id > 3 AND name = 'it''s; fine -- really (even this)'",
    "a IN (SELECT b FROM t WHERE (c = 1))",
    '"odd ; name" = 1',
    "[odd ) name] = `x;y`",
    "id = 1 -- a comment ; with )",
    "id /* ; ) */ = 1",
    "json ->> '$.x' = 'y'",
)
BAD = (
    "",
    "  ",
    "1; DROP TABLE t",
    "1) OR (1",
    "1) UNION SELECT 1 --",
    "(1",
    "1)",
    "'open",
    '"open',
    "1 /* open",
    "x = :a",
    "x = $a(') ; --')",
    "x = @a",
    "x = ?",
    "1\0",
    "1 OR " * 30_000 + "1",
)


@pytest.mark.parametrize("text", GOOD)
def test_this_is_one_expression(text: str) -> None:
    assert problem(text) == ""


@pytest.mark.parametrize("text", BAD)
def test_this_could_end_the_statement_or_is_no_expression(text: str) -> None:
    assert problem(text) != ""
