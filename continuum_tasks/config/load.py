"""Find and read the configuration: three files in, one checked `Config` out."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from continuum_tasks.config import schema
from continuum_tasks.config.files import read_text
from continuum_tasks.config.lines import FilePosition, Section, parse_lines, quoted_text, suggestion
from continuum_tasks.config.settings import (
    DEFAULT_LEVELS,
    LEVEL_RANGES,
    SYSTEM_DIRECTORY,
    BackupSettings,
    BrokerSettings,
    CaptureSettings,
    Config,
    DatabaseConfig,
    DrillSettings,
    Invariant,
    RetentionSettings,
    StorageConfig,
    StorageType,
    WorkerSettings,
    default_paths,
)
from continuum_tasks.config.values import HOST, INVARIANT, database_name, question, show_duration, storage_name
from continuum_tasks.errors import ConfigError


def find_config_directory(option: str | None, environment: Mapping[str, str]) -> Path:
    """Return the directory of the .conf files: `option`, else CONTINUUM_CONFIG_DIR, else /etc/continuum; absolute."""
    if option is not None and not option.strip():
        raise ConfigError("--config-dir is empty", hint="name a directory, or remove the option to use /etc/continuum")
    text = option or environment.get("CONTINUUM_CONFIG_DIR") or ""
    if not text:
        return SYSTEM_DIRECTORY
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as err:
        raise ConfigError(
            f"configuration directory {quoted_text(text)} cannot be found: {err}", hint="give an absolute path"
        ) from err


def load_config(directory: Path, *, environment: Mapping[str, str] | None = None) -> Config:
    """Read and check backup.conf, storage.conf and retention.conf of an absolute directory.

    CONTINUUM_HOST in `environment` (this process's own unless given) overrides `host`. Raises ConfigError naming file
    and line for whatever is wrong, in any file; opens nothing else.
    """
    texts = {name: read_text(directory / name) for name in schema.FILES}
    return read_config(texts, directory=directory, environment=os.environ if environment is None else environment)


def read_config(texts: Mapping[str, str], *, directory: Path, environment: Mapping[str, str]) -> Config:
    """As `load_config`, from texts by file name."""
    sections = {name: _sections(texts[name], directory / name) for name in schema.FILES}
    main, storage_file = sections["backup.conf"], sections["storage.conf"]
    backup = _backup(main)
    storages, default_storage = _storages(storage_file, uploads=backup.max_concurrent_uploads)
    databases = _databases(main, storages, default_storage)
    workers = WorkerSettings(**schema.read_section(_one(main, "workers"), schema.WORKERS))
    values = schema.read_section(_one(main, "continuum"), schema.CONTINUUM)
    config = Config(
        **asdict(default_paths(directory))
        | values
        | {
            "directory": directory,
            "host": _host(values.get("host", ""), _one(main, "continuum"), environment),
            "default_database": _default(main, "continuum", "default_database", names=[d.name for d in databases]),
            "default_storage": default_storage,
            "databases": databases,
            "storages": storages,
            "backup": backup,
            "broker": BrokerSettings(**schema.read_section(_one(main, "broker"), schema.BROKER)),
            "workers": workers,
            "capture": _capture(main),
            "retention": _retention(sections["retention.conf"]),
            "drill": _drill(main, [d.name for d in databases]),
        }
    )
    _refuse_keys_in_storage(config, storage_file)
    return config


def _sections(text: str, file: Path) -> tuple[Section, ...]:
    """Parse one file; the first section is a stand-in at line 1 for those that may be left out."""
    known = schema.FILES[file.name]
    titles = [f"[{kind}]" if keys else f"[{kind}:NAME]" for kind, keys in known.items()]
    sections = parse_lines(text, file=file)
    for section in sections:
        if section.kind not in known or (known[section.kind] is None) != bool(section.label):
            hint = suggestion(section.title, titles)
            raise ConfigError(f"{section.place}: unknown section {quoted_text(section.title)}", hint=hint)
    return (Section(kind="", label="", place=FilePosition(file=file, line=1)), *sections)


def _one(sections: tuple[Section, ...], kind: str) -> Section:
    return next((s for s in sections if s.kind == kind), replace(sections[0], kind=kind))


def _named(sections: tuple[Section, ...], kind: str) -> tuple[Section, ...]:
    return tuple(s for s in sections if s.kind == kind)


def _backup(sections: tuple[Section, ...]) -> BackupSettings:
    section = _one(sections, "backup")
    values = schema.read_section(section, schema.BACKUP)
    algorithm = values.get("compression_algorithm", BackupSettings().compression_algorithm)
    settings = BackupSettings(**({"compression_level": DEFAULT_LEVELS[algorithm]} | values))
    low, high = LEVEL_RANGES[algorithm]
    if not low <= settings.compression_level <= high:
        place = section.entries["compression_level"].place
        raise ConfigError(
            f"{place}: [backup] compression_level = {settings.compression_level} is not allowed for {algorithm}",
            hint=f"allowed for {algorithm}: {low} to {high}",
        )
    return settings


def _storages(sections: tuple[Section, ...], *, uploads: int) -> tuple[tuple[StorageConfig, ...], str]:
    storages = tuple(_storage(section, uploads=uploads) for section in _named(sections, "storage"))
    if not storages:
        raise ConfigError(f"{sections[0].place}: no [storage:NAME] is declared", hint="add [storage:local] with type and path")
    schema.read_section(_one(sections, "storages"), schema.STORAGES)
    return storages, _default(sections, "storages", "default", names=[s.name for s in storages])


def _storage(section: Section, *, uploads: int) -> StorageConfig:
    _check_label(section, storage_name().parse, storage_name().allowed)
    if "type" not in section.entries:
        raise ConfigError(f"{section.place}: {section.title} lacks 'type'", hint="add type = local or type = s3")
    kind: StorageType = schema.read_value(section, schema.STORAGE[StorageType.LOCAL][0])
    values = schema.read_section(section, schema.STORAGE[kind])
    return StorageConfig(name=section.label, max_concurrent_uploads=uploads, **values)


def _databases(
    sections: tuple[Section, ...], storages: tuple[StorageConfig, ...], default_storage: str
) -> tuple[DatabaseConfig, ...]:
    databases: list[DatabaseConfig] = []
    names = [s.name for s in storages]
    for section in _named(sections, "database"):
        _check_label(section, database_name().parse, database_name().allowed)
        values: dict[str, Any] = schema.read_section(section, schema.DATABASE)
        database = DatabaseConfig(**(values | {"name": section.label, "storage": values.get("storage") or default_storage}))
        if database.storage not in names:
            place = section.entries["storage"].place
            message = f"{place}: {section.title} storage = {quoted_text(database.storage)} is not declared in storage.conf"
            raise ConfigError(message, hint=f"declared: {', '.join(names)}")
        twin = next((d for d in databases if d.path == database.path), None)
        if twin:
            place = section.entries["path"].place
            raise ConfigError(f"{place}: {database.path} is database {twin.name!r} already", hint="one section per file")
        _check_target(section, database)
        databases.append(database)
    if not databases:
        raise ConfigError(f"{sections[0].place}: no [database:NAME] is declared", hint="add [database:memory] with a path")
    return tuple(databases)


def _check_target(section: Section, database: DatabaseConfig) -> None:
    every, target = database.incremental_every_seconds, database.rpo_target_seconds
    if every and every >= target and not database.continuous:  # captured commits keep the target, whatever the increments do
        entry = section.entries.get("rpo_target") or section.entries["incremental_every"]
        raise ConfigError(
            f"{entry.place}: {section.title} incremental_every = {show_duration(every)} cannot keep"
            f" rpo_target = {show_duration(target)}",
            hint="allowed: an incremental_every shorter than rpo_target (default: 5m)",
        )


def _capture(sections: tuple[Section, ...]) -> CaptureSettings:
    section = _one(sections, "capture")
    settings = CaptureSettings(**schema.read_section(section, schema.CAPTURE))
    if settings.wal_limit_bytes < settings.wal_alarm_bytes:
        entry = section.entries.get("wal_limit_bytes") or section.entries["wal_alarm_bytes"]
        raise ConfigError(
            f"{entry.place}: [capture] wal_limit_bytes = {settings.wal_limit_bytes} is below wal_alarm_bytes",
            hint="allowed: a limit that is at least the alarm",
        )
    return settings


def _drill(sections: tuple[Section, ...], databases: list[str]) -> DrillSettings:
    """Read [drill]: its keys, and `sql.NAME` or `sql.DATABASE.NAME` for each question."""
    section = _one(sections, "drill")
    asked = {key: entry for key, entry in section.entries.items() if key.startswith(schema.SQL_PREFIX)}
    plain = replace(section, entries={key: entry for key, entry in section.entries.items() if key not in asked})
    invariants = tuple(_invariant(section, key, databases) for key in asked)
    return DrillSettings(**schema.read_section(plain, schema.DRILL), invariants=invariants)


def _invariant(section: Section, key: str, databases: list[str]) -> Invariant:
    entry = section.entries[key]
    database, _, name = key.removeprefix(schema.SQL_PREFIX).rpartition(".")
    if not INVARIANT.fullmatch(name):
        hint = "write sql.NAME or sql.DATABASE.NAME; NAME is 1 to 64 of a-z, 0-9, '_' and '-'"
        raise ConfigError(f"{entry.place}: {section.title} {quoted_text(key)} is not a name", hint=hint)
    if database and database not in databases:
        message = f"{entry.place}: {section.title} {quoted_text(key)} is about a database that is not declared"
        raise ConfigError(message, hint=f"declared: {', '.join(databases)}")
    sql = schema.read_value(section, schema.SettingKey(name=key, kind=question(), note=""))
    return Invariant(name=name, database=database, sql=sql)


def _retention(sections: tuple[Section, ...]) -> RetentionSettings:
    section = _one(sections, "retention")
    settings = RetentionSettings(**schema.read_section(section, schema.RETENTION))
    if 0 < settings.max_age_seconds < settings.keep_within_seconds:
        place = section.entries["max_age"].place
        raise ConfigError(
            f"{place}: [retention] max_age = {quoted_text(section.entries['max_age'].text)} is shorter than keep_within",
            hint=f"allowed: never, or at least keep_within = {section.entries['keep_within'].text}",
        )
    return settings


def _default(sections: tuple[Section, ...], kind: str, key: str, *, names: list[str]) -> str:
    """Return the name an entry gives, else the only one there is."""
    section = _one(sections, kind)
    entry = section.entries.get(key)
    if entry is None or not entry.text:
        if len(names) == 1:
            return names[0]
        place = entry.place if entry else section.place
        raise ConfigError(f"{place}: {section.title} lacks {key!r}", hint=f"several are declared, name one: {', '.join(names)}")
    if entry.text not in names:
        message = f"{entry.place}: {section.title} {key} = {quoted_text(entry.text)} is not declared"
        raise ConfigError(message, hint=f"declared: {', '.join(names)}")
    return entry.text


def _check_label(section: Section, parse: Any, allowed: str) -> None:
    try:
        parse(section.label)
    except ValueError as err:
        message = f"{section.place}: {section.kind} name {quoted_text(section.label)} is not allowed"
        raise ConfigError(message, hint=f"allowed: {allowed}") from err


def _host(text: str, section: Section, environment: Mapping[str, str]) -> str:
    override = environment.get("CONTINUUM_HOST", "")
    host = override or text or socket.gethostname().lower()
    if not HOST.fullmatch(host):
        where = "CONTINUUM_HOST" if override else f"{section.place}: this machine's host name"
        raise ConfigError(f"{where} {quoted_text(host)} is not allowed", hint="1 to 63 of a-z, 0-9, '.', '_' and '-'; set host")
    return host


def _refuse_keys_in_storage(config: Config, sections: tuple[Section, ...]) -> None:
    keys_dir = Path(os.path.normpath(config.keys_dir))
    for section, storage in zip(_named(sections, "storage"), config.storages, strict=True):
        if storage.path and keys_dir.is_relative_to(os.path.normpath(storage.path)):
            raise ConfigError(
                f"{section.entries['path'].place}: {section.title} path = {storage.path} holds keys_dir {keys_dir}",
                hint="keep the keys away from the backups: who steals the storage has the key, and both may be lost together",
            )
