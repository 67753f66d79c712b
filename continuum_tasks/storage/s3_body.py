"""storage/s3_body.py: what goes up in one request: bytes without a copy, and the checksum that proves they arrived."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
