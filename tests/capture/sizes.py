"""How much is tried: `make test` takes minutes, `make proof` the better part of an hour."""

from __future__ import annotations

from tests.support.sampling import WHOLE as FULL

STRESS_SECONDS = 60.0 if FULL else 5.0
N_SAMPLES = 200 if FULL else 15  # commits restored after each stress run
N_COMMITS = 100_000 if FULL else 2_000  # of the long history
N_RESTORES = 1_000 if FULL else 15  # of its commits
LAG_SECONDS = 60.0 if FULL else 8.0
IDLE_SECONDS = 600.0 if FULL else 8.0
