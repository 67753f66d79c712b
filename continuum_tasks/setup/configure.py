"""Change one setting in a .conf file: the files as they would be must load, then one rename; audited."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from continuum_tasks.config import Config
from continuum_tasks.config.files import MAX_BYTES, read_regular, read_text, replace_file, system_reason
from continuum_tasks.config.lines import parse_lines, quoted_text
from continuum_tasks.config.load import read_config
from continuum_tasks.config.named import NOT_SHOWN, Setting, effective, find_setting, settings_of
from continuum_tasks.config.render import drop_setting, put
from continuum_tasks.config.schema import FILES
from continuum_tasks.errors import ConfigError, ContinuumError, KeyMissing, LockError
from continuum_tasks.host import audit
from continuum_tasks.host.audit_trail import DONE, AuditEntry, record_entry
from continuum_tasks.keyring import open_keyring
from continuum_tasks.model import Cipher
from continuum_tasks.setup import fitness

WAIT_SECONDS = 10.0
_BOM = b"\xef\xbb\xbf"
_KEYS = ("backup.encryption", "backup.encryption_key_id", "continuum.keys_dir")


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingChange:
    """Which setting is to have which value; `value` None = its default. Environment: of this process, `by`: who asks."""

    setting: str
    value: str | None
    directory: Path
    environment: Mapping[str, str]
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What a setting was and is, secrets not shown; `line` is 0 where no line says it. Nothing was written if not `written`."""

    name: str
    old: str
    new: str
    file: Path
    line: int
    written: bool
    restart: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """The files as they are: texts by name, and what they mean, if they do."""

    texts: Mapping[str, str]
    config: Config | None


def change_setting(request: SettingChange, *, now: datetime) -> Changed:
    """Change one setting, durably, or nothing at all.

    Raises UsageError for an unknown name, ConfigError for a value that is not allowed or would not load, KeyMissing for an
    encryption key that is not here, LockError when another change takes its time.
    """
    with _alone(request.directory):
        files = _read(request)
        setting = find_setting(request.setting, settings_of(files.texts, directory=request.directory))
        try:
            changed, config = _change(request, setting, files)
        except ContinuumError as err:
            if files.config is not None:
                deed = AuditEntry(action="config-set", subject=setting.name, by=request.by, detail=err.message)
                _audit(deed, files.config, now=now, outcome=type(err).__name__)
            raise
        if not changed.written:
            return changed
        detail = f"{changed.old or '(empty)'} -> {changed.new or '(empty)'} in {changed.file}"
        deed = AuditEntry(action="config-set", subject=setting.name, by=request.by, detail=detail)
        warnings = _audit(deed, files.config or config, now=now, outcome=DONE)
        return replace(changed, warnings=(*changed.warnings, *warnings))


def _change(request: SettingChange, setting: Setting, files: _Files) -> tuple[Changed, Config]:
    file = request.directory / setting.file
    original = _original(file, files.texts[setting.file])
    text = _edited(request, setting, files.texts[setting.file], file=file)
    texts = {**files.texts, setting.file: text}
    try:
        config = read_config(texts, directory=request.directory, environment=request.environment)
    except ConfigError as err:
        raise ConfigError(f"{err.message}; nothing was changed", hint=err.hint) from err
    _check_key(setting, config)
    data = text.encode()
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{file}: would be longer than {MAX_BYTES} bytes; nothing was changed", hint="give a shorter value")
    if text != files.texts[setting.file]:
        _write(file, _BOM + data if original.startswith(_BOM) else data, original)
    return _outcome(request, setting, files, texts=texts, config=config), config


def _edited(request: SettingChange, setting: Setting, text: str, *, file: Path) -> str:
    if request.value is None:
        return drop_setting(text, setting)
    value = request.value.strip(" \t")
    shown = NOT_SHOWN if setting.key.secret else quoted_text(value)
    refusal = f"{setting.name} = {shown} is not allowed; nothing was changed"
    hint = f"allowed: {setting.key.kind.allowed}"
    if not value.isprintable():
        raise ConfigError(refusal, hint=f"it holds a character that does not print; {hint}")
    try:
        setting.key.kind.parse(value)
    except ValueError as err:
        raise ConfigError(refusal, hint=hint) from (None if setting.key.secret else err)
    edited = put(text, setting, value, file=file)
    read = _line(edited, setting, file=file)
    if read is None or read[1] != value:  # what the file would say is not what was meant
        raise ConfigError(refusal, hint=f"a .conf file cannot carry it; {hint}")
    return edited


def _line(text: str, setting: Setting, *, file: Path) -> tuple[int, str] | None:
    """Return the line number and the text of a setting, None where no line says it. Raises ConfigError."""
    for section in parse_lines(text, file=file):
        if (section.kind, section.label) == (setting.kind, setting.label) and setting.key.name in section.entries:
            entry = section.entries[setting.key.name]
            return entry.place.line, entry.text
    return None


def _outcome(request: SettingChange, setting: Setting, files: _Files, *, texts: Mapping[str, str], config: Config) -> Changed:
    file = request.directory / setting.file
    line = _line(texts[setting.file], setting, file=file)
    said = "" if setting.entry is None else setting.entry.text
    old = said or (effective(setting, files.config) if files.config is not None else "")
    after = [one for one in settings_of(texts, directory=request.directory) if one.name == setting.name]
    new = line[1] if line is not None and line[1] else effective(after[0], config) if after else ""
    written = texts[setting.file] != files.texts[setting.file]
    return Changed(
        name=setting.name,
        old=setting.shown(old),
        new=setting.shown(new),
        file=file,
        line=0 if line is None else line[0],
        written=written,
        restart=written and setting.key.restart,
        warnings=_warnings(setting, config),
    )


def _warnings(setting: Setting, config: Config) -> tuple[str, ...]:
    if setting.name == "backup.encryption" and config.backup.encryption is Cipher.NONE:
        return ("encryption is off: anyone who can read the storage can read every new chain",)
    if setting.kind == "database" and setting.key.name in ("path", "accept_file_system"):
        return fitness.warnings(config.database(setting.label))
    return ()


def _check_key(setting: Setting, config: Config) -> None:
    """Refuse what would make every next backup fail. Raises KeyMissing, KeyringError."""
    if setting.name not in _KEYS or config.backup.encryption is Cipher.NONE:
        return
    key_id = config.backup.encryption_key_id
    keyring = open_keyring(config.keys_dir)
    if not keyring.has(key_id):
        there = ", ".join(keyring.key_ids()) or "none"
        raise KeyMissing(f"key {key_id}: is not in {config.keys_dir}; nothing was changed", hint=f"keys there: {there}")
    keyring.fingerprint(key_id)


def _read(request: SettingChange) -> _Files:
    texts = {name: read_text(request.directory / name) for name in FILES}
    try:
        config = read_config(texts, directory=request.directory, environment=request.environment)
    except ConfigError:
        return _Files(texts=texts, config=None)  # the change may be what repairs it
    return _Files(texts=texts, config=config)


def _original(file: Path, text: str) -> bytes:
    try:
        data = read_regular(file, max_bytes=MAX_BYTES)
    except (OSError, ValueError) as err:
        raise ConfigError(f"{file}: cannot be read again; nothing was changed", hint="try again") from err
    if data.removeprefix(_BOM) != text.encode():
        raise ConfigError(f"{file}: somebody else changed it in this moment; nothing was changed", hint="try again")
    return data


def _write(file: Path, data: bytes, original: bytes) -> None:
    try:
        replace_file(file, data, expected=original)
    except (OSError, ValueError) as err:
        why = system_reason(err) if isinstance(err, OSError) else str(err)
        hint = "make the file and its directory writable for this user, or edit it as the user who owns it"
        raise ConfigError(f"{file}: cannot be written: {why}; nothing was changed", hint=hint) from err


def _audit(deed: AuditEntry, config: Config, *, now: datetime, outcome: str) -> tuple[str, ...]:
    try:
        record_entry(deed, state_dir=config.state_dir, host=config.host, at=now, outcome=outcome)
    except OSError as err:
        return (f"{config.state_dir / audit.FILE}: not written ({err.strerror})",)
    return ()


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep other changes out while this one reads and writes. Raises ConfigError, LockError."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError) as err:
        why = system_reason(err) if isinstance(err, OSError) else str(err)
        raise ConfigError(f"{directory}: cannot be opened: {why}", hint="run `continuum init`, or name another") from err
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                raise LockError(f"{directory}: another change has held it for {WAIT_SECONDS:.0f} s", hint="try again")
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
