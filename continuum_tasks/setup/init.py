"""Make a working configuration: three .conf files, the directories they name, and a key. Never changes one that is there."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from shlex import quote
from urllib.parse import urlencode

from continuum_tasks.config import (
    BackupSettings,
    Config,
    DatabaseConfig,
    StorageConfig,
    default_paths,
    is_s3,
    parse_storage_url,
    render_config,
    write_config,
)
from continuum_tasks.config.files import make_directory, mode_of, system_reason
from continuum_tasks.config.schema import FILES
from continuum_tasks.config.values import is_database_name
from continuum_tasks.errors import ConfigError
from continuum_tasks.keyring import adopt_key, generate_key, open_keyring, read_key_copy
from continuum_tasks.keyring.keyfile import KeyFile
from continuum_tasks.model import Cipher
from continuum_tasks.setup import fitness

DEFAULT_DATABASE = Path("/var/lib/continuum/memory.db")
DEFAULT_STORAGE = "/var/backups/continuum"


@dataclass(frozen=True, slots=True, kw_only=True)
class InitRequest:
    """What the operator asked for. `storage` is DIR or s3://...; `key_file` is a copy of a key to adopt."""

    config_dir: Path
    database: Path = DEFAULT_DATABASE
    storage: str = DEFAULT_STORAGE
    encryption: Cipher = Cipher.AES_256_GCM
    key_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialized:
    """What was made. `advice` and `warnings` are lines for the operator; `key_path` is None without encryption.

    `config` is what the files say, with an empty host: load them to get this machine's.
    """

    config: Config
    files: tuple[Path, ...]
    key_path: Path | None
    key_fingerprint: str
    warnings: tuple[str, ...] = field(default=())
    advice: tuple[str, ...] = field(default=())


def initialise(request: InitRequest, *, now: datetime, random_bytes: Callable[[int], bytes]) -> Initialized:
    """Initialise a configuration directory.

    Raises ConfigError when it is initialised already or cannot be written, and KeyringError for a bad `key_file`; everything
    that can be refused is refused before the first change. A key that an interrupted run left is kept and used.
    """
    _refuse_existing(request.config_dir)
    key = _key_copy(request)
    config = plan_configuration(request, key_id=key.key_id if key else BackupSettings().encryption_key_id)
    render_config(config)
    if mode_of(config.keys_dir):
        open_keyring(config.keys_dir)
    warnings = _warnings(config)
    for directory in _directories(config):
        _make(directory)
    key_path = _make_key(config, key, now=now, random_bytes=random_bytes)
    fingerprint = open_keyring(config.keys_dir).fingerprint(key_path.stem) if key_path else ""
    return Initialized(
        config=config,
        files=write_config(config),
        key_path=key_path,
        key_fingerprint=fingerprint,
        warnings=warnings,
        advice=_advice(config, key_path, fingerprint),
    )


def plan_configuration(request: InitRequest, *, key_id: str) -> Config:
    """Return the configuration that `initialise` would write; its host is empty: the name of the machine that reads it."""
    directory = _absolute(request.config_dir)
    paths = default_paths(directory)
    storage = parse_storage_url(request.storage, "s3" if is_s3(request.storage) else "local")
    database = _absolute(request.database)
    if stat.S_ISDIR(mode_of(database)):
        raise ConfigError(f"database {database} is a directory", hint="name the SQLite file, for example memory.db")
    name = database_name_for(database)
    return Config(
        directory=directory,
        state_dir=paths.state_dir,
        temp_dir=paths.temp_dir,
        log_file=paths.log_file,
        keys_dir=paths.keys_dir,
        host="",
        default_database=name,
        default_storage=storage.name,
        databases=(DatabaseConfig(name=name, path=database, storage=storage.name),),
        storages=(storage,),
        backup=BackupSettings(encryption=request.encryption, encryption_key_id=key_id),
    )


def database_name_for(path: Path) -> str:
    """Return the file's stem as a database name: `/data/My Memory.db` is `my-memory`."""
    words = re.sub(r"[^a-z0-9_]+", "-", path.stem.lower()).strip("-")
    words = re.sub(r"-([0-9]+)$", r"_\1", words)  # -2 at the end of a backup id counts collisions
    name = (words if re.match(r"[a-z]", words) else f"db_{words}" if words else "")[:64].strip("-")
    return name if is_database_name(name) else "memory"


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as err:
        raise ConfigError(f"{path}: {err}", hint="give an absolute path") from err


def _refuse_existing(directory: Path) -> None:
    there = [name for name in FILES if os.path.lexists(directory / name)]
    if "backup.conf" in there:
        raise ConfigError(f"{directory}: already initialised", hint="edit its files, or name another --config-dir")
    if there:
        hint = "an interrupted init may have left them: move them away, or name another --config-dir"
        raise ConfigError(f"{directory}: already initialised in part: {', '.join(there)}", hint=hint)


def _key_copy(request: InitRequest) -> KeyFile | None:
    if request.key_file is None:
        return None
    if request.encryption is Cipher.NONE:
        raise ConfigError("a key file was given, but encryption is off", hint="use only one of --key-file and --no-encryption")
    return read_key_copy(_absolute(request.key_file))


def _directories(config: Config) -> tuple[Path, ...]:
    storages = tuple(storage.path for storage in config.storages if storage.path)
    return (config.directory, config.state_dir, *storages)


def _make(directory: Path) -> None:
    try:
        make_directory(directory)
    except OSError as err:
        hint = "run as a user who may create it, or name another --config-dir and --storage"
        raise ConfigError(f"directory {directory}: cannot be made: {system_reason(err)}", hint=hint) from err


def _make_key(config: Config, key: KeyFile | None, *, now: datetime, random_bytes: Callable[[int], bytes]) -> Path | None:
    if config.backup.encryption is Cipher.NONE:
        return None
    if key:
        return adopt_key(config.keys_dir, key)
    key_id = config.backup.encryption_key_id
    if open_keyring(config.keys_dir).has(key_id):
        # Left by an interrupted init, or put there from a copy: backups may need it, a new one would shadow it
        return config.keys_dir / f"{key_id}.key"
    return generate_key(config.keys_dir, key_id, random_bytes=random_bytes, now=now)


def _warnings(config: Config) -> tuple[str, ...]:
    found = [
        f"database {database.path}: no file that this user can see; restore it, or correct path in backup.conf"
        for database in config.databases
        if not mode_of(database.path)
    ]
    found += [text for database in config.databases if mode_of(database.path) for text in fitness.warnings(database)]
    for directory in _directories(config)[1:]:
        if mode_of(directory) & 0o022:
            found.append(f"directory {directory}: others may write in it; chmod go-w {directory}")
    return tuple(found)


def _advice(config: Config, key_path: Path | None, fingerprint: str) -> tuple[str, ...]:
    storage = config.storages[0]
    if key_path is None:
        return (
            "encryption is off: anyone who can read the storage can read every backup",
            "set encryption = aes-256-gcm in backup.conf before the first backup if that is not what you want",
        )
    return (
        "if you lose the key, you lose the backups: nobody can open them without it",
        f"the key: {key_path} (id {key_path.stem}, fingerprint {fingerprint[:8]})",
        f"keep a copy away from this machine and from the storage: print it (lp {key_path}) or put it into a password manager",
        f"on a new machine: continuum init --key-file COPY --storage {_argument(storage)}",
        f"then: continuum backup list --storage {storage.name}",
    )


def _argument(storage: StorageConfig) -> str:
    if storage.path:
        return quote(str(storage.path))
    options = {
        "endpoint": storage.endpoint,
        "region": storage.region,
        "profile": storage.profile,
        "credentials_file": storage.credentials_file,
        "checksum_mode": storage.checksum_mode,
    }
    query = urlencode({name: str(value) for name, value in options.items() if value not in (None, "auto")}, safe=":/")
    return quote(f"s3://{storage.bucket}/{storage.prefix}{'?' if query else ''}{query}")
