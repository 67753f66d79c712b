"""Odd words to type, and what holds whatever is typed."""

from __future__ import annotations

import contextlib
import io
import json

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from continuum_tasks.cli.main import exit_codes, run_command

ODD = (
    *(
        "",
        " ",
        "\0",
        "a\0b",
        ".",
        "..",
        "/",
        "//",
        "-",
        "--",
        "---",
        "-1",
        "0",
        "99999999999999999999",
        "1e9",
        "nan",
        "%s",
        "$(id)",
    ),
    *(
        "\ud800",
        "\udcff",
        "a\udcffb",
        "\u202e",
        "\x1b[31m",
        "\n",
        "'; DROP TABLE backups; --",
        "null",
        "None",
        "true",
        "x" * 300,
    ),
    *(
        "x" * 70_000,
        "a/" * 3000,
        "/dev/null",
        "/dev/full",
        "/proc/1/root/x",
        "/etc",
        "memory.db/x",
        "etc",
        "~x",
    ),
    *("backup-full-20251206-010000", "backup-full-99999999-999999", "backup-full-20251206-010000-../../etc", "memory", "local"),
    *("s3://", "s3://b", "s3://a:b@c/", "s3://b/p?x=1", "http://h", "\U0001f600", "é", "full", "json", "memory.db", "store"),
)


WORDS = st.one_of(st.sampled_from(ODD), st.text(max_size=40).filter(lambda text: not text.startswith(("/", "~"))))


QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)


def check(words: list[str]) -> None:
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command(words)
        out.flush()
        err.flush()
    shown, said = out.buffer.getvalue().decode(), err.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert code in exit_codes() and code != 70, (code, words, said)
    assert "Traceback" not in said + shown
    assert len(said) < 4000
    if code and "--format=json" in words[-1:]:
        json.loads(shown)
