"""Which unit tests take seconds each: `make test-unit` leaves them out, `make test` runs all."""

from __future__ import annotations

import pytest

# Each of these files took more than 2 s on two cores: model checks, fuzzing, and commands run as processes.
SLOW = (
    *("plan/test_retention_model.py", "plan/test_chain.py", "cli/test_fuzz_every_command.py", "cli/test_fuzz.py"),
    *("cli/test_extract.py", "cli/test_drill.py", "cli/test_restore_points.py", "cli/test_hand_over.py"),
    *("cli/test_init_command.py", "cli/test_verify_all.py", "sample/test_writer.py", "sample/test_command.py"),
    *("sqlite/test_pages.py", "sqlite/test_install_kills.py", "sqlite/test_snapshot.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.as_posix().endswith(tuple(f"tests/unit/{name}" for name in SLOW)):
            item.add_marker(pytest.mark.slow)
