"""What an S3 storage is told, and the boto3 client made from it."""

from __future__ import annotations

import configparser
import contextlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from continuum_tasks.errors import ConfigError
from continuum_tasks.storage.protocol import is_key
from continuum_tasks.storage.s3_errors import S3_FAILURES, code_of, is_transient
from continuum_tasks.storage.s3_upload import Upload, put_whole

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1024 * 1024
_CHECKSUM_MODES = ("auto", "required", "supported")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """One bucket and a prefix in it. No secrets: those come from boto3's chain, `profile` or `credentials_file` (0600).

    `endpoint` None = AWS. An object above `multipart_bytes` goes up in parts of that size.
    """

    name: str = "s3"
    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    credentials_file: Path | None = None
    checksum_mode: str = "auto"
    max_concurrent_uploads: int = 4
    multipart_bytes: int = 16 * MIB
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 60.0

    @property
    def sends_sha256(self) -> bool:
        """True: SHA-256 as the server knows it. False: Content-MD5, which every server we tried honours."""
        if self.checksum_mode == "auto":
            return self.endpoint is None or (urlsplit(self.endpoint).hostname or "").endswith(".amazonaws.com")
        return self.checksum_mode == "supported"

    @property
    def where(self) -> str:
        """Coordinates for messages."""
        return f"storage {self.name} (bucket {self.bucket}{f' at {self.endpoint}' if self.endpoint else ''})"


def check_settings(settings: S3Settings) -> None:
    """Raises ConfigError for settings no client could be made from."""
    prefix = settings.prefix.strip("/")
    endpoint = urlsplit(settings.endpoint or "https://s3.amazonaws.com")
    problems = {
        "bucket is empty": not settings.bucket,
        f"prefix {prefix!r} cannot begin a key": bool(prefix) and not is_key(prefix),
        "endpoint is not http(s)://host[:port]": endpoint.scheme not in ("http", "https") or not endpoint.hostname,
        "endpoint carries a user or password": "@" in endpoint.netloc,
        f"checksum_mode is not one of {', '.join(_CHECKSUM_MODES)}": settings.checksum_mode not in _CHECKSUM_MODES,
        "max_concurrent_uploads is below 1": settings.max_concurrent_uploads < 1,
        "multipart_bytes is below 5 MiB, the least S3 takes": settings.multipart_bytes < 5 * MIB,
    }
    for problem, found in problems.items():
        if found:
            raise ConfigError(f"storage {settings.name}: {problem}", hint="correct it in storage.conf")


def open_client(settings: S3Settings) -> S3Client:
    """Make a client; nothing goes over the network yet. Raises ConfigError for credentials that cannot be used."""
    keys = {} if settings.credentials_file is None else _read_credentials(settings, settings.credentials_file)
    try:
        # A session of our own per client: making clients from boto3's shared one is not thread-safe.
        session = boto3.session.Session(
            aws_access_key_id=keys.get("aws_access_key_id"),
            aws_secret_access_key=keys.get("aws_secret_access_key"),
            aws_session_token=keys.get("aws_session_token"),
            profile_name=None if keys else settings.profile,
        )
        region = _region(session, settings)
        return session.client("s3", region_name=region, endpoint_url=settings.endpoint, config=_config(settings))
    except (BotoCoreError, ValueError) as err:
        raise ConfigError(f"{settings.where}: {err}", hint="check profile, region and endpoint in storage.conf") from err


def _region(session: boto3.session.Session, settings: S3Settings) -> str | None:
    # Signatures need some region; servers other than AWS take this one.
    return settings.region or session.region_name or ("us-east-1" if settings.endpoint else None)


def _config(settings: S3Settings) -> Config:
    checksums: Literal["when_supported", "when_required"] = "when_supported" if settings.sends_sha256 else "when_required"
    return Config(
        connect_timeout=settings.connect_timeout_seconds,
        read_timeout=settings.read_timeout_seconds,
        max_pool_connections=max(10, 2 * settings.max_concurrent_uploads),
        tcp_keepalive=True,
        retries={"total_max_attempts": 1, "mode": "standard"},  # `Retrying` does that, once
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        # Every put carries a checksum of its own; signing the payload would hash it once more (3x slower on loopback).
        s3={"addressing_style": "path" if settings.endpoint else "auto", "payload_signing_enabled": False},
    )


def _read_credentials(settings: S3Settings, path: Path) -> dict[str, str]:
    """Read an AWS-style credentials file. No message, and no chained error, may carry a line of it."""
    where = f"storage {settings.name}: credentials_file {path}"
    text = _read_private(path, where)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error:
        raise ConfigError(f"{where}: not an INI file", hint="write it as AWS's ~/.aws/credentials") from None
    section = settings.profile or "default"
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    found = {name: parser.get(section, name) for name in names if parser.has_option(section, name)}
    if not {*names[:2]} <= found.keys():
        raise ConfigError(f"{where}: section [{section}] lacks {names[0]} or {names[1]}", hint="add both there")
    return found


def _read_private(path: Path, where: str) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise ConfigError(f"{where}: others may read it (mode {mode:04o})", hint=f"chmod 600 {path}")
            return file.read()
    except OSError as err:
        raise ConfigError(f"{where}: {os.strerror(err.errno or 0).lower()}", hint="check the path and its rights") from err
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: not text", hint="write it as AWS's ~/.aws/credentials") from None


_REFUSED = 412


_UNKNOWN_HEADER = (400, 405, 411, 501)


def honours_conditions(upload: Upload) -> bool:
    """Tell whether `If-None-Match: *` keeps the first of two writes to `upload`'s name, which is read back and removed."""
    try:
        put_whole(upload, only_new=True)
        return _refuses(replace(upload, body=memoryview(b"second"))) and _stored(upload) == upload.body
    except ClientError as err:
        if code_of(err)[1] in _UNKNOWN_HEADER:
            return False
        raise
    finally:
        # Who may write but not delete leaves a few bytes behind: no reason to refuse a backup.
        with contextlib.suppress(*S3_FAILURES):
            upload.client.delete_object(**upload.place)


def has_versioning(client: S3Client, bucket: str) -> bool:
    """Tell whether the bucket keeps what is overwritten or deleted."""
    return _ask(client.get_bucket_versioning, bucket).get("Status") == "Enabled"


def has_object_lock(client: S3Client, bucket: str) -> bool:
    """Tell whether objects of the bucket may be locked against deletion."""
    answer = _ask(client.get_object_lock_configuration, bucket)
    return bool(answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")


def _refuses(upload: Upload) -> bool:
    try:
        put_whole(upload, only_new=True)
    except ClientError as err:
        if code_of(err)[1] == _REFUSED:
            return True
        raise
    return False


def _stored(upload: Upload) -> bytes:
    with contextlib.closing(upload.client.get_object(**upload.place)["Body"]) as stream:
        return stream.read()


def _ask(question: Callable[..., Any], bucket: str) -> Mapping[str, Any]:
    try:
        answer: Mapping[str, Any] = question(Bucket=bucket)
    except ClientError as err:
        if is_transient(err):
            raise
        return {}  # the server knows no such thing, or this user may not ask
    return answer
