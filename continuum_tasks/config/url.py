"""Read a storage from one argument of the command line: `DIR` or `s3://bucket/prefix?endpoint=URL&region=R`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from continuum_tasks.config.lines import quoted_text, suggestion
from continuum_tasks.config.schema import STORAGE, SettingKey
from continuum_tasks.config.settings import StorageConfig, StorageType
from continuum_tasks.config.values import storage_name
from continuum_tasks.errors import ConfigError

_FORMS = "allowed: DIR or s3://BUCKET/PREFIX?endpoint=URL&region=R (also profile, credentials_file, checksum_mode)"
_OPTIONS = {key.name: key for key in STORAGE[StorageType.S3] if key.name not in ("type", "bucket", "prefix")}


def parse_storage_url(text: str, name: str) -> StorageConfig:
    """Return the storage `text` means, under `name`; a relative DIR is taken from here. Raises ConfigError."""
    try:
        storage_name().parse(name)
    except ValueError as err:
        raise ConfigError(
            f"storage name {quoted_text(name)} is not allowed", hint=f"allowed: {storage_name().allowed}"
        ) from err
    if not text.strip() or not text.isprintable():
        raise ConfigError(f"storage {quoted_text(text)} is not one", hint=_FORMS)
    if "://" not in text:
        return StorageConfig(name=name, type=StorageType.LOCAL, path=_directory(text))
    try:
        url = urlsplit(text)
    except ValueError as err:
        raise ConfigError("storage: the URL is malformed", hint=_FORMS) from err
    return _s3(url, name)


def is_s3(text: str) -> bool:
    return text.lower().startswith("s3://")


def _directory(text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as err:
        raise ConfigError(f"storage {quoted_text(text)}: {err}", hint="give an absolute path") from err


def _s3(url: SplitResult, name: str) -> StorageConfig:
    if url.scheme != "s3":
        raise ConfigError(f"storage: {quoted_text(url.scheme)} is not a kind of storage", hint=_FORMS)
    if "@" in url.netloc or url.fragment:
        # Neither is quoted: a secret key in a URL would end in logs and shell histories
        raise ConfigError("storage: the URL carries credentials or a fragment", hint="use profile= or credentials_file=")
    keys = {key.name: key for key in STORAGE[StorageType.S3]}
    values: dict[str, Any] = {
        "bucket": _value(keys["bucket"], url.netloc),
        "prefix": _value(keys["prefix"], unquote(url.path).strip("/")),
    }
    for option, text in _query(url.query):
        if option not in _OPTIONS:
            raise ConfigError(f"storage: unknown option {quoted_text(option)} in the URL", hint=suggestion(option, _OPTIONS))
        if option in values:
            raise ConfigError(f"storage: option {option!r} is given twice in the URL", hint="keep one of the two")
        values[option] = _value(_OPTIONS[option], text)
    return StorageConfig(name=name, type=StorageType.S3, **values)


def _query(query: str) -> list[tuple[str, str]]:
    if not query:
        return []
    try:
        return parse_qsl(query, keep_blank_values=True, strict_parsing=True, max_num_fields=32)
    except ValueError as err:
        raise ConfigError("storage: the URL's options are malformed", hint=_FORMS) from err


def _value(key: SettingKey, text: str) -> Any:
    try:
        return key.kind.parse(text)
    except ValueError as err:
        raise ConfigError(
            f"storage: {key.name} {quoted_text(text)} is not allowed", hint=f"allowed: {key.kind.allowed}"
        ) from err
