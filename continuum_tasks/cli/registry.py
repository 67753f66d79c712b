"""Which commands there are and where each lives, so that `continuum --help` imports none of them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem

from continuum_tasks.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Lazy:
    """One command: the module and attribute it is imported from when it is run, and its line in the help."""

    module: str
    attribute: str
    help: str


COMMANDS: Mapping[str, Lazy] = {
    "init": Lazy(module="setup.init", attribute="init", help="Make a working configuration and a key."),
    "up": Lazy(module="setup.up", attribute="up", help="Run broker, capture, workers, timetable and Flower."),
    "down": Lazy(module="setup.up", attribute="down", help="Stop what `up` started, and wait until it has ended."),
    "health-check": Lazy(
        module="report.health", attribute="health_check", help="Check databases, backups, storages and workers."
    ),
}
BACKUP_COMMANDS: Mapping[str, Lazy] = {
    "create": Lazy(module="backup.create", attribute="create", help="Back up a database now."),
    "capture": Lazy(module="capture.capture", attribute="capture", help="Show, stop and run the capture of every commit."),
    "enable-wal": Lazy(
        module="capture.start", attribute="enable_wal", help="Switch a database to WAL mode, to capture its commits."
    ),
    "list": Lazy(module="backup.list", attribute="list_backups", help="List backups, newest first."),
    "info": Lazy(module="backup.list", attribute="info", help="Show one backup, its chain and its verdicts."),
    "history": Lazy(module="capture.history", attribute="history", help="List captured commits, newest first."),
    "restore": Lazy(module="restore.restore", attribute="restore", help="Restore a backup to a path, proven page by page."),
    "extract": Lazy(
        module="restore.extract", attribute="extract", help="Restore rows of a table, also while the service runs."
    ),
    "verify": Lazy(module="verify.verify", attribute="verify", help="Prove backups from the storage alone."),
    "verify-all": Lazy(module="verify.verify", attribute="verify_all", help="Prove all backups of a period."),
    "test-restore": Lazy(module="verify.drill", attribute="test_restore", help="Restore to scratch, prove and measure."),
    "drill": Lazy(
        module="verify.drill", attribute="drill", help="Rehearse a disaster: restore to scratch, run your own checks."
    ),
    "verify-recovery": Lazy(
        module="restore.verify_recovery", attribute="verify_recovery", help="Prove the last restore made on this host."
    ),
    "forensics-copy": Lazy(
        module="restore.forensics_copy", attribute="forensics_copy", help="Copy a database with its sidecars, as it is."
    ),
    "compare-counts": Lazy(
        module="restore.compare_counts", attribute="compare_counts", help="Compare a backup's rows with a database's."
    ),
    "health": Lazy(
        module="report.health", attribute="backup_health", help="Show how old the last backups are, and what is wrong."
    ),
    "apply-retention": Lazy(module="retention.apply", attribute="apply_retention", help="Expire backups that no rule keeps."),
    "compact": Lazy(module="capture.compact", attribute="compact", help="Merge captured segments into larger ones."),
    "hold": Lazy(module="retention.hold", attribute="hold", help="Keep a backup until it is released."),
    "release": Lazy(module="retention.hold", attribute="release", help="Let retention expire a held backup again."),
    "test-storage": Lazy(
        module="setup.storage", attribute="test_storage", help="Use a storage as a backup does, and measure it."
    ),
    "accept": Lazy(module="backup.accept", attribute="accept", help="Accept a backup with anomalies as good."),
    "reindex": Lazy(module="setup.storage", attribute="reindex", help="Rebuild the catalog from the storages."),
    "storage-usage": Lazy(module="report.usage", attribute="storage_usage", help="Show what storages hold and when they fill."),
    "metrics": Lazy(module="report.metrics", attribute="metrics", help="Show what runs took and moved, with the trend."),
    "report": Lazy(module="report.report", attribute="report", help="Report on a day, week or month, also as an HTML page."),
    "logs": Lazy(module="report.logs", attribute="logs", help="Show what workers and commands logged, newest last."),
    "audit": Lazy(module="report.audit", attribute="audit_log", help="Show who did what, and check that nobody changed it."),
    "config": Lazy(module="setup.config", attribute="config", help="Show and change settings of the .conf files."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they run; help and completion read the table."""

    def __init__(self, *args: Any, table: Mapping[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.no_args_is_help = False  # the help then goes to standard error, by `parse_args`
        self._table = table

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(UsageError.exit_code)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *self._table]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = self._table.get(cmd_name)
        if lazy is None:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(importlib.import_module(f"continuum_tasks.cli.{lazy.module}"), lazy.attribute)
        if cmd_name in EXAMPLES and not command.epilog:
            command.epilog = f"\b\nExample:\n  {EXAMPLES[cmd_name]}"
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.list_commands(ctx) and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"no such command {name[:80]!r}; there are: {', '.join(self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(self._lines(""))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name, help=text) for name, text in self._lines(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def _lines(self, start: str) -> list[tuple[str, str]]:
        own = {name: command.get_short_help_str(80) for name, command in self.commands.items()}
        lazy = {name: entry.help for name, entry in self._table.items()}
        return [(name, text) for name, text in {**own, **lazy}.items() if name.startswith(start)]


ID = "backup-full-20261123-010000"


DATABASE = "/var/lib/continuum/memory.db"


EXAMPLES = {
    "init": f"continuum init --database {DATABASE} --storage /var/backups/continuum --yes",
    "up": "continuum up --config-dir /etc/continuum",
    "down": "continuum down --timeout 120",
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
