"""One example for each command's `--help`; a test runs every one of them through the parser."""

from __future__ import annotations

ID = "backup-full-20261123-010000"
DATABASE = "/var/lib/continuum/memory.db"

EXAMPLES = {
    "init": f"continuum init --database {DATABASE} --storage /var/backups/continuum --yes",
    "up": "continuum up --config-dir /etc/continuum",
    "health-check": "continuum health-check --format json",
    "create": "continuum backup create --strategy incremental --priority high",
    "capture": "continuum backup capture status",
    "enable-wal": "continuum backup enable-wal memory --yes",
    "list": "continuum backup list --verified-only --since 7d --limit 10",
    "info": f"continuum backup info {ID}",
    "history": 'continuum backup history --around "2026-11-23 14:30" --tables',
    "restore": f"continuum backup restore {ID} --target {DATABASE} --overwrite --verify",
    "extract": f'continuum backup extract {ID} --table messages --where "id > 100" --into {DATABASE} --dry-run',
    "verify": f"continuum backup verify {ID} --level restore",
    "verify-all": "continuum backup verify-all --since 7d",
    "test-restore": "continuum backup test-restore --latest",
    "drill": "continuum backup drill --random",
    "verify-recovery": "continuum backup verify-recovery",
    "forensics-copy": "continuum backup forensics-copy --to /tmp/evidence",
    "compare-counts": f"continuum backup compare-counts {ID} {DATABASE}",
    "health": "continuum backup health",
    "apply-retention": "continuum backup apply-retention --dry-run",
    "compact": "continuum backup compact --dry-run",
    "hold": f'continuum backup hold {ID} --reason "incident 4711"',
    "release": f"continuum backup release {ID}",
    "test-storage": "continuum backup test-storage s3",
    "accept": f'continuum backup accept {ID} --reason "old messages were archived"',
    "reindex": "continuum backup reindex --storage s3",
    "storage-usage": "continuum backup storage-usage",
    "metrics": "continuum backup metrics backup_duration_seconds --since 7d",
    "report": "continuum backup report --week --output week.html",
    "logs": "continuum backup logs --level error --since 1h",
    "audit": "continuum backup audit --since 30d",
}
