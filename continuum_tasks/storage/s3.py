"""Objects in a bucket, on AWS or any server that speaks S3.

No answer is believed for being a 200: a put counts when the server names the checksum of what was sent, or the bytes
were read back; `If-None-Match` counts when a second write was refused and the first one's bytes are still there.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from continuum_tasks.errors import ObjectDamaged, ObjectExists, ObjectMissing, StorageError
from continuum_tasks.storage.protocol import (
    Buffer,
    Capabilities,
    ObjectInfo,
    check_key,
    check_prefix,
    check_range,
    is_key,
    short_object,
    view,
)
from continuum_tasks.storage.s3_client import (
    S3Settings,
    check_settings,
    has_object_lock,
    has_versioning,
    honours_conditions,
    open_client,
)
from continuum_tasks.storage.s3_errors import S3_FAILURES, code_of, s3_error
from continuum_tasks.storage.s3_upload import Upload, put_parts, put_whole

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["S3Settings", "S3Storage"]

PROBES = ".probe/"


class _Process:
    """What a process has of its own: a forked child must not share its parent's sockets or locks."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._client: S3Client | None = None
        self.slots = threading.BoundedSemaphore(settings.max_concurrent_uploads)

    def client(self) -> S3Client:
        """Return the client, made by the first who asks: 0.1 s of processor time."""
        with self._lock:
            if self._client is None:
                self._client = open_client(self._settings)
            return self._client


class S3Storage:
    """A bucket and a prefix. The client is made by the first call in each process; no secret is kept here."""

    def __init__(self, settings: S3Settings) -> None:
        check_settings(settings)
        self._settings = settings
        self._prefix = f"{prefix}/" if (prefix := settings.prefix.strip("/")) else ""
        self._processes: dict[int, _Process] = {}
        self._conditional: bool | None = None
        self._features: tuple[bool, bool] | None = None

    def __repr__(self) -> str:
        return f"S3Storage({self._settings.where!r}, prefix={self._prefix!r})"

    def put(self, key: str, data: Buffer, *, only_new: bool = False) -> None:
        """See `Storage.put`. At most `max_concurrent_uploads` at a time in a process; others wait.

        A create-only object goes up in one request whatever its size: servers that honour `If-None-Match` there may
        ignore it when parts are completed. Raises StorageUnreachable, StorageDenied, StorageFull, ObjectDamaged.
        """
        body = view(data)
        with self._here().slots, self._coordinates(key):
            upload = self._upload(key, body)
            if only_new:
                confirmed = self._put_new(key, upload)
            elif len(body) > self._settings.multipart_bytes:
                confirmed = put_parts(upload, part_bytes=self._settings.multipart_bytes)
            else:
                confirmed = put_whole(upload)
            if not confirmed:
                self._read_back(key, body)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See `Storage.get`."""
        check_range(offset, length)
        if length == 0 or (offset and length is None):
            size = self.stat(key).size_bytes
            if offset > size:
                raise short_object(self._at(key), offset=offset, length=length, found=size)
            length = size - offset if length is None else 0
            if not length:
                return b""
        with self._coordinates(key):
            try:
                return self._get(key, offset, length)
            except ClientError as err:
                if code_of(err)[1] != 416:
                    raise
                raise short_object(self._at(key), offset=offset, length=length, found=0) from err

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See `Storage.list`. Names that are no keys are not ours and are passed over."""
        found: list[ObjectInfo] = []
        with self._coordinates(check_prefix(prefix)):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._settings.bucket, Prefix=self._prefix + prefix):
                for item in page.get("Contents", ()):
                    key = item["Key"].removeprefix(self._prefix)
                    if is_key(key):
                        at = item["LastModified"].astimezone(UTC)
                        found.append(ObjectInfo(key=key, size_bytes=item["Size"], modified_at=at))
        return iter(sorted(found, key=lambda info: info.key))

    def delete(self, key: str) -> None:
        """See `Storage.delete`. With versioning on, the server keeps the old version behind a marker."""
        with contextlib.suppress(ObjectMissing), self._coordinates(key):
            self._client.delete_object(Bucket=self._settings.bucket, Key=self._name(key))

    def stat(self, key: str) -> ObjectInfo:
        """See `Storage.stat`."""
        with self._coordinates(key):
            try:
                found = self._client.head_object(Bucket=self._settings.bucket, Key=self._name(key))
            except ClientError as err:
                if code_of(err)[1] == 404:
                    self._check_bucket()
                raise
            at = found["LastModified"].astimezone(UTC)
            return ObjectInfo(key=key, size_bytes=found["ContentLength"], modified_at=at)

    def capabilities(self) -> Capabilities:
        """See `Storage.capabilities`."""
        with self._coordinates(PROBES + "capabilities"):
            conditional = self._honours_conditions()
            if self._features is None:
                bucket = self._settings.bucket
                self._features = (has_versioning(self._client, bucket), has_object_lock(self._client, bucket))
        versioning, object_lock = self._features
        return Capabilities(conditional_put=conditional, versioning=versioning, object_lock=object_lock, free_bytes=None)

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _at(self, key: str) -> str:
        return f"{self._settings.where}: object {self._prefix}{key}"

    @contextmanager
    def _coordinates(self, key: str) -> Iterator[None]:
        try:
            yield
        except S3_FAILURES as err:
            raise s3_error(err, self._at(key)) from err

    def _here(self) -> _Process:
        # No lock of this object: one held by another thread during a fork would stay shut in the child.
        return self._processes.setdefault(os.getpid(), _Process(self._settings))

    @property
    def _client(self) -> S3Client:
        return self._here().client()

    def _get(self, key: str, offset: int, length: int | None) -> bytes:
        wanted: Any = {} if length is None else {"Range": f"bytes={offset}-{offset + length - 1}"}
        answer = self._client.get_object(Bucket=self._settings.bucket, Key=self._name(key), **wanted)
        with contextlib.closing(answer["Body"]) as stream:
            if wanted and not answer.get("ContentRange", "").startswith(f"bytes {offset}-"):
                raise StorageError(f"{self._at(key)}: the server ignores ranges", hint="use a server that honours Range")
            data = stream.read()
        if len(data) != (answer["ContentLength"] if length is None else length):
            raise short_object(self._at(key), offset=offset, length=length, found=len(data))
        return data

    def _upload(self, key: str, body: memoryview) -> Upload:
        settings = self._settings
        name = self._name(key)
        return Upload(client=self._client, bucket=settings.bucket, name=name, body=body, sha256=settings.sends_sha256)

    def _put_new(self, key: str, upload: Upload) -> bool:
        if self._honours_conditions():
            return put_whole(upload, only_new=True)
        # Not atomic, and `capabilities` says so: two writers at the same instant may both succeed here.
        with contextlib.suppress(ObjectMissing):
            self.stat(key)
            raise ObjectExists(f"{self._at(key)}: it exists already")
        return put_whole(upload)

    def _honours_conditions(self) -> bool:
        if self._conditional is None:
            self._conditional = honours_conditions(self._upload(f"{PROBES}{uuid.uuid4().hex}", memoryview(b"first")))
        return self._conditional

    def _read_back(self, key: str, body: memoryview) -> None:
        """Compare what is stored with what was sent: the server confirmed neither SHA-256 nor MD5 (as with SSE-KMS)."""
        if self._get(key, 0, None) == body:
            return
        with contextlib.suppress(*S3_FAILURES):
            self._client.delete_object(Bucket=self._settings.bucket, Key=self._name(key))
        raise ObjectDamaged(f"{self._at(key)}: the server stored other bytes than were sent", hint="do not use this server")

    def _check_bucket(self) -> None:
        try:
            self._client.head_bucket(Bucket=self._settings.bucket)
        except ClientError as err:
            if code_of(err)[1] == 404:
                hint = "make the bucket, or correct bucket and region in storage.conf"
                raise StorageError(f"{self._settings.where}: there is no such bucket", hint=hint) from err
            raise
