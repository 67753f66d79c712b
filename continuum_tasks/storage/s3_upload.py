"""Send one object, whole or in parts, and say whether the server confirmed the very bytes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from continuum_tasks.storage.s3_errors import S3_FAILURES

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_PARTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One object on its way: where to, what, and with which checksum (`sha256`, else Content-MD5)."""

    client: S3Client
    bucket: str
    name: str
    body: memoryview
    sha256: bool

    @property
    def place(self) -> dict[str, Any]:
        """Name bucket and key as the client's calls take them."""
        return {"Bucket": self.bucket, "Key": self.name}


def put_whole(upload: Upload, *, only_new: bool = False) -> bool:
    """Send the object in one request; True when the server confirmed its checksum. Raises what boto3 raises."""
    sent = body_checksum(upload.body, sha256=upload.sha256)
    condition: Any = {"IfNoneMatch": "*"} if only_new else {}
    body: Any = Body(upload.body)
    answer: Any = upload.client.put_object(**upload.place, **condition, **sent.parameters(), Body=body)
    return _confirmed(upload.body, sent, answer)


def put_parts(upload: Upload, *, part_bytes: int) -> bool:
    """Send the object in parts, all or nothing; True when the server confirmed every part and the size. Raises as boto3."""
    part_bytes = max(part_bytes, -(-len(upload.body) // MAX_PARTS))
    algorithm: Any = {"ChecksumAlgorithm": "SHA256"} if upload.sha256 else {}
    with ExitStack() as undo:
        upload_id = upload.client.create_multipart_upload(**upload.place, **algorithm)["UploadId"]
        undo.callback(_abort, upload, upload_id)
        sums, parts, confirmed = [], [], True
        for number, start in enumerate(range(0, len(upload.body), part_bytes), 1):
            piece = upload.body[start : start + part_bytes]
            sent = body_checksum(piece, sha256=upload.sha256)
            target: Any = {**upload.place, "UploadId": upload_id, "PartNumber": number}
            file: Any = Body(piece)
            answer: Any = upload.client.upload_part(**target, **sent.parameters(), Body=file)
            confirmed = _confirmed(piece, sent, answer) and confirmed
            sums.append(sent)
            parts.append(_completed(number, answer, sent))
        done: Any = upload.client.complete_multipart_upload(
            **upload.place, UploadId=upload_id, MultipartUpload={"Parts": parts}
        )
        undo.pop_all()
    return confirmed and (checksum_of_parts(sums).confirmed_by(done) or _has_size(upload))


def _has_size(upload: Upload) -> bool:
    return upload.client.head_object(**upload.place)["ContentLength"] == len(upload.body)


def _completed(number: int, answer: Any, sent: Checksum) -> Any:
    checksums = {"ChecksumSHA256": sent.parameters()["ChecksumSHA256"]} if "ChecksumSHA256" in answer else {}
    return {"PartNumber": number, "ETag": answer["ETag"], **checksums}


def _confirmed(body: memoryview, sent: Checksum, answer: Any) -> bool:
    # Some servers check the SHA-256 they are sent but do not name it in the answer: the ETag tells then.
    return sent.confirmed_by(answer) or (sent.sha256 and body_checksum(body, sha256=False).confirmed_by(answer))


def _abort(upload: Upload, upload_id: str) -> None:
    # What failed before is the error to report; a lifecycle rule of the bucket clears what stays (docs/STORAGE.md).
    with contextlib.suppress(*S3_FAILURES):
        upload.client.abort_multipart_upload(**upload.place, UploadId=upload_id)


# The HTTP client asks for 16 KiB at a time; a 32 MiB chunk goes out in 32 sends instead of 2,048.
_SEND_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksum:
    """SHA-256 or MD5 of a body, or of its parts' checksums (`n_parts` > 0), as S3 composes them."""

    digest: bytes
    sha256: bool
    n_parts: int = 0

    def parameters(self) -> dict[str, Any]:
        """Return what PutObject and UploadPart take so that the server checks the bytes itself."""
        return {"ChecksumSHA256" if self.sha256 else "ContentMD5": _base64(self.digest)}

    def confirmed_by(self, answer: Mapping[str, object]) -> bool:
        """Tell whether the answer names this very checksum: SHA-256 as its own field, MD5 as the ETag."""
        suffix = f"-{self.n_parts}" if self.n_parts else ""
        if self.sha256:
            return answer.get("ChecksumSHA256") == _base64(self.digest) + suffix
        return str(answer.get("ETag", "")).strip('"') == self.digest.hex() + suffix


def body_checksum(data: memoryview, *, sha256: bool) -> Checksum:
    """Compute the checksum of a body; without the GIL."""
    digest = hashlib.sha256(data).digest() if sha256 else hashlib.md5(data, usedforsecurity=False).digest()
    return Checksum(digest=digest, sha256=sha256)


def checksum_of_parts(parts: Sequence[Checksum]) -> Checksum:
    """Compose the checksum S3 gives an object made of `parts`."""
    whole = body_checksum(memoryview(b"".join(part.digest for part in parts)), sha256=parts[0].sha256)
    return Checksum(digest=whole.digest, sha256=whole.sha256, n_parts=len(parts))


class Body:
    """A file-like view of bytes that hands out slices, so nothing is copied on the way to the socket."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def __len__(self) -> int:
        return len(self._data)

    def read(self, size: int = -1) -> memoryview:
        """Return the next slice: at least `size` and up to 1 MiB, the rest when negative."""
        end = len(self._data) if size < 0 else self._at + max(size, _SEND_BYTES)
        piece = self._data[self._at : end]
        self._at += len(piece)
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move as files do; a redirect starts again from 0."""
        self._at = offset + (0, self._at, len(self._data))[whence]
        return self._at

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._at


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")
