"""A program that a test machine does not have: notes that it was asked, and succeeds."""

import os
import sys
from pathlib import Path

with Path(os.environ["MACHINE_LOG"]).open("a", encoding="utf-8") as log:
    log.write(" ".join(sys.argv[1:]) + "\n")
