"""An object half written: its header, the blocks sealed so far, and in the end its index and trailer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from continuum_tasks.layer.codec import check_level, compress
from continuum_tasks.layer.format import MAGIC, SALT_BYTES, TAG_BYTES, BlockEntry, ObjectContext, ObjectHeader, encode_header
from continuum_tasks.layer.seal import INDEX_NONCE, KEY_BYTES, NO_COMMITMENT, Sealer, block_nonce, key_commitment
from continuum_tasks.model import Cipher, Codec


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkOptions:
    """How to write an object. `salt`: 32 bytes fresh from the system's random source for every call, retries included."""

    page_size: int
    codec: Codec
    level: int
    cipher: Cipher
    data_key: bytes | None
    salt: bytes

    def __post_init__(self) -> None:
        if self.page_size not in (1 << bits for bits in range(9, 17)):
            raise RuntimeError(f"page size {self.page_size} is not one of SQLite's")
        if len(self.salt) != SALT_BYTES:
            raise RuntimeError(f"a salt has {SALT_BYTES} bytes")
        n_key_bytes = KEY_BYTES if self.cipher is Cipher.AES_256_GCM else 0
        if len(self.data_key or b"") != n_key_bytes:
            raise RuntimeError(f"cipher {self.cipher} takes a data key of {n_key_bytes} bytes")
        check_level(self.codec, self.level)


@dataclass(slots=True, kw_only=True)
class Costs:
    """Seconds that writing a chunk spent on page digests, on the codec, and on cipher and SHA-256; 0 without a clock."""

    hash_seconds: float = 0.0
    compress_seconds: float = 0.0
    seal_seconds: float = 0.0


def no_clock() -> float:
    return 0.0


class ObjectDraft:
    """What has been written of an object, in `data`. `clock` gives monotonic seconds for the costs."""

    def __init__(
        self, context: ObjectContext, options: ChunkOptions, *, magic: bytes = MAGIC, clock: Callable[[], float] = no_clock
    ) -> None:
        self.costs = Costs()
        self.blocks: list[BlockEntry] = []
        self._options = options
        self._clock = clock
        header = ObjectHeader(
            codec=options.codec,
            cipher=options.cipher,
            page_size=options.page_size,
            salt=options.salt,
            commitment=key_commitment(options.data_key, options.salt) if options.data_key else NO_COMMITMENT,
            magic=magic,
        )
        self._sealer = Sealer(header, context, options.data_key)
        self.data = bytearray(encode_header(header))
        self._sha256 = hashlib.sha256(self.data)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def seal_block(self, raw: memoryview) -> None:
        """Compress and seal whole pages as the next block."""
        codec, packed = self._compress(raw)
        block = BlockEntry(
            offset=len(self.data),
            stored_bytes=len(packed) + TAG_BYTES,
            n_pages=len(raw) // self._options.page_size,
            codec=codec,
        )
        self._seal(packed, nonce=block_nonce(len(self.blocks)))
        self.blocks.append(block)

    def seal_index(self, raw: bytes, trailer: Callable[[int, int, Codec], bytes]) -> int:
        """End the object with its index and trailer and return their length.

        `trailer` makes the trailer from the index's offset, its stored bytes and its codec.
        """
        offset = len(self.data)
        codec, packed = self._compress(raw)
        end = trailer(offset, len(packed) + TAG_BYTES, codec)
        self._seal(packed, nonce=INDEX_NONCE, also=end)
        self.data += end
        self._sha256.update(end)
        return len(self.data) - offset

    def _compress(self, raw: bytes | memoryview) -> tuple[Codec, bytes | bytearray | memoryview]:
        begun = self._clock()
        packed = compress(self._options.codec, self._options.level, raw)
        self.costs.compress_seconds += self._clock() - begun
        return (self._options.codec, packed) if len(packed) < len(raw) else (Codec.NONE, raw)

    def _seal(self, packed: bytes | bytearray | memoryview, *, nonce: bytes, also: bytes = b"") -> None:
        begun = self._clock()
        start = len(self.data)
        self.data += bytes(len(packed) + TAG_BYTES)
        with memoryview(self.data) as whole, whole[start:] as part:
            self._sealer.seal_into(part, packed, nonce=nonce, also=also)
            self._sha256.update(part)
        self.costs.seal_seconds += self._clock() - begun
