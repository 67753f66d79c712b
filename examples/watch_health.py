"""Print what is wrong and what to do about it: python examples/watch_health.py [CONFIG_DIR]; exit 1 when something is"""

from __future__ import annotations

import sys

from continuum_tasks.api import health_report, open_installation
from continuum_tasks.findings import Severity

with open_installation(sys.argv[1] if len(sys.argv) > 1 else None) as installation:
    report = health_report(installation)
wrong = [finding for finding in report.findings if finding.severity is not Severity.OK]
for finding in wrong:
    print(f"{finding.severity}: {finding.subject}: {finding.text}; {finding.hint}")
sys.exit(bool(wrong))
