"""continuum init."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from continuum_tasks.cli.frame import output, parameters
from continuum_tasks.cli.frame.context import cli_context, config_directory, configuration, shared_options
from continuum_tasks.errors import UsageError
from continuum_tasks.host import audit
from continuum_tasks.host.audit_trail import AuditEntry, record_entry, user
from continuum_tasks.model import Cipher
from continuum_tasks.setup.init import DEFAULT_DATABASE, DEFAULT_STORAGE, Initialized, InitRequest, initialise


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What was said on the command line; None = not said."""

    database: Path | None
    storage: str | None
    key_file: Path | None
    no_encryption: bool


@click.command("init")
@click.option(
    "--database",
    type=parameters.file,
    default=None,
    metavar="PATH",
    help=f"The live file [default: {DEFAULT_DATABASE}].",
)
@click.option(
    "--storage",
    default=None,
    metavar="DIR|s3://BUCKET/PREFIX?endpoint=URL&region=R",
    help=f"Where backups are stored [default: {DEFAULT_STORAGE}].",
)
@click.option(
    "--key-file", type=parameters.path_value, default=None, metavar="FILE", help="Use this copy of a key; make no new one."
)
@click.option("--no-encryption", is_flag=True, help="Anyone who can read the storage can then read every backup.")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@shared_options
def init(database: Path | None, storage: str | None, key_file: Path | None, no_encryption: bool, yes: bool) -> None:
    """Make a working configuration: three .conf files, the directories they name, and a key.

    If you lose the key, you lose the backups: nobody can open them without it. Keep a copy away from
    this machine and from the storage.
    """
    wishes = Wishes(database=database, storage=storage, key_file=key_file, no_encryption=no_encryption)
    done = initialise(_request(wishes if yes else _ask(wishes)), now=datetime.now(UTC), random_bytes=secrets.token_bytes)
    for text in (*done.warnings, *_audited(done)):
        output.warn(text)
    if cli_context().as_json:
        output.print_document(_fields(done))
        return
    output.print_text(f"initialised {done.config.directory}")
    for path in done.files:
        output.print_text(f"  {path}")
    for line in done.advice:
        output.print_text(line)


def _audited(done: Initialized) -> tuple[str, ...]:
    """Begin the audit log; what cannot be written comes back as a warning: the configuration is made."""
    key = f"key {done.key_path}, fingerprint {done.key_fingerprint[:8]}" if done.key_path else "no key: encryption is off"
    deed = AuditEntry(action="init", subject=str(done.config.directory), by=user(), detail=key)
    state_dir = done.config.state_dir
    try:
        record_entry(deed, state_dir=state_dir, host=configuration().host, at=datetime.now(UTC))
    except OSError as err:
        return (f"{state_dir / audit.FILE}: not written ({err.strerror})",)
    return ()


def _request(wishes: Wishes) -> InitRequest:
    return InitRequest(
        config_dir=config_directory(),
        database=wishes.database or DEFAULT_DATABASE,
        storage=DEFAULT_STORAGE if wishes.storage is None else wishes.storage,
        encryption=Cipher.NONE if wishes.no_encryption else Cipher.AES_256_GCM,
        key_file=wishes.key_file,
    )


def _ask(wishes: Wishes) -> Wishes:
    """Ask for what was not said; every question has a default. Raises UsageError when nobody answers."""
    try:
        click.echo(f"A configuration will be made in {output.printable(str(config_directory()))}.", err=True)
        database = wishes.database or click.prompt(
            "Database to back up", default=str(DEFAULT_DATABASE), value_proc=parameters.file, err=True
        )
        storage = wishes.storage or click.prompt(
            "Where backups are stored (a directory or s3://bucket/prefix)", default=DEFAULT_STORAGE, err=True
        )
        encrypted = not wishes.no_encryption
        if encrypted and wishes.key_file is None:
            click.echo("If you lose the key, you lose the backups: nobody can open them without it.", err=True)
            encrypted = click.confirm("Encrypt backups with a key made now?", default=True, err=True)
        click.confirm("Make it?", default=True, abort=True, err=True)
    except click.Abort as err:
        if isinstance(err.__context__, EOFError):
            raise UsageError(
                "init asks questions, and there was no answer", hint="give --yes, with --database and --storage"
            ) from err
        raise
    return Wishes(database=database, storage=storage, key_file=wishes.key_file, no_encryption=not encrypted)


def _fields(done: Initialized) -> dict[str, object]:
    database, storage = done.config.databases[0], done.config.storages[0]
    return {
        "config_dir": str(done.config.directory),
        "files": [str(path) for path in done.files],
        "database": {"name": database.name, "path": str(database.path)},
        "storage": {"name": storage.name, "type": storage.type.value},
        "key_path": None if done.key_path is None else str(done.key_path),
        "key_fingerprint": done.key_fingerprint or None,
        "warnings": list(done.warnings),
        "advice": list(done.advice),
    }
