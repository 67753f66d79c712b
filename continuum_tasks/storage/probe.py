"""Use a storage in every way a backup does, and measure it (`continuum backup test-storage`)."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from continuum_tasks.errors import ObjectDamaged, ObjectExists, ObjectMissing, StorageError
from continuum_tasks.storage.protocol import Capabilities, Storage

MIB = 1024 * 1024
PROBES = ".probe/"
SMALL_BYTES = 1000
RANGE_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeStep:
    """One thing that worked, and how long it took."""

    name: str
    seconds: float
    n_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReport:
    """What was tried in order, the throughput of one large object each way, and what the storage can do."""

    storage: str
    steps: tuple[ProbeStep, ...]
    upload_bytes_per_second: float
    download_bytes_per_second: float
    capabilities: Capabilities


def probe(storage: Storage, *, name: str, monotonic: Callable[[], float], size_bytes: int = 8 * MIB) -> ProbeReport:
    """Write, read back, range, list, stat, create only and delete two objects under `.probe/`, which are removed.

    Raises the StorageError of the first step that fails, or ObjectDamaged when bytes come back changed.
    """
    run = _Run(storage=storage, name=name, monotonic=monotonic, steps=[])
    small, large = (f"{PROBES}{uuid.uuid4().hex}/{part}" for part in ("small", "large"))
    data = {small: os.urandom(SMALL_BYTES), large: os.urandom(size_bytes)}
    with ExitStack() as undo:
        for key in data:
            undo.callback(_discard, storage, key)
        with run.step("capabilities"):
            capabilities = storage.capabilities()
        run.write_and_read("small", small, data[small])
        run.write_and_read("large", large, data[large])
        run.read_range(large, data[large])
        run.look(small, large, size_bytes)
        run.refuse_second(small, data[small])
        run.remove(small, large)
    return _report(name, run.steps, capabilities)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    storage: Storage
    name: str
    monotonic: Callable[[], float]
    steps: list[ProbeStep]

    @contextmanager
    def step(self, label: str, n_bytes: int = 0) -> Iterator[None]:
        begun_at = self.monotonic()
        yield
        self.steps.append(ProbeStep(name=label, seconds=self.monotonic() - begun_at, n_bytes=n_bytes))

    def expect(self, key: str, found: object, wanted: object) -> None:
        if found != wanted:
            raise ObjectDamaged(f"storage {self.name}: object {key}: came back changed", hint="do not use this storage")

    def write_and_read(self, label: str, key: str, data: bytes) -> None:
        with self.step(f"write {label}", len(data)):
            self.storage.put(key, data)
        with self.step(f"read {label}", len(data)):
            found = self.storage.get(key)
        self.expect(key, found, data)

    def read_range(self, key: str, data: bytes) -> None:
        middle = len(data) // 2
        wanted = data[middle : middle + RANGE_BYTES]
        with self.step("read range", len(wanted)):
            found = self.storage.get(key, offset=middle, length=len(wanted))
        self.expect(key, found, wanted)

    def look(self, small: str, large: str, large_bytes: int) -> None:
        with self.step("list"):
            found = [info.key for info in self.storage.list(small)]
        self.expect(small, found, [small])
        with self.step("stat"):
            size = self.storage.stat(large).size_bytes
        self.expect(large, size, large_bytes)

    def refuse_second(self, key: str, data: bytes) -> None:
        with self.step("create only"):
            try:
                self.storage.put(key, b"second", only_new=True)
            except ObjectExists:
                pass
            else:
                message = f"storage {self.name}: object {key}: a create-only write replaced it"
                raise StorageError(message, hint="do not use this storage")
        self.expect(key, self.storage.get(key), data)

    def remove(self, *keys: str) -> None:
        with self.step("delete"):
            for key in keys:
                self.storage.delete(key)
        with contextlib.suppress(ObjectMissing):
            self.storage.stat(keys[0])
            message = f"storage {self.name}: object {keys[0]}: still there after delete"
            raise StorageError(message, hint="check the policies of the bucket")


def _report(name: str, steps: list[ProbeStep], capabilities: Capabilities) -> ProbeReport:
    rates = {step.name: step.n_bytes / max(step.seconds, 1e-9) for step in steps}
    return ProbeReport(
        storage=name,
        steps=tuple(steps),
        upload_bytes_per_second=rates["write large"],
        download_bytes_per_second=rates["read large"],
        capabilities=capabilities,
    )


def _discard(storage: Storage, key: str) -> None:
    with contextlib.suppress(StorageError):  # the step that failed is the error to report
        storage.delete(key)
