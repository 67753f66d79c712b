"""Install restic and borg under .tools/peers, with no right to change the machine where that is possible.

restic: the one on PATH, else Debian's package, downloaded and unpacked.
borg: from PyPI into an environment of its own, built against the machine's headers, else against Debian's, unpacked beside
it; else the one on PATH; else, as root, Debian's package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.places import PEERS, PROGRAMS, program

BORG = "borgbackup==1.4.5"
HEADERS = ("libacl1-dev", "libattr1-dev", "liblz4-dev", "libssl-dev", "libxxhash-dev", "libzstd-dev")
_PREFIXES = ("BORG_LIBACL_PREFIX", "BORG_LIBLZ4_PREFIX", "BORG_LIBXXHASH_PREFIX", "BORG_LIBZSTD_PREFIX", "BORG_OPENSSL_PREFIX")


class Unavailable(Exception):
    """A peer cannot be had this way; the text says why."""


def main() -> int:
    """Install what is missing; 1 when something stays missing, with the reason in .tools/peers/NAME.missing."""
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    ways: Mapping[str, tuple[Callable[[], None], ...]] = {
        "restic": (_restic_on_path, _restic_from_debian),
        "borg": (_borg_from_pypi, _borg_from_pypi_with_headers, _borg_on_path, _borg_from_debian),
    }
    missing = [name for name, tries in ways.items() if not _install(name, tries)]
    return 1 if missing else 0


def _install(name: str, ways: tuple[Callable[[], None], ...]) -> bool:
    note = PEERS / f"{name}.missing"
    note.unlink(missing_ok=True)
    reasons = []
    for way in ways if not (PROGRAMS / name).exists() else ():
        try:
            way()
            break
        except Unavailable as err:
            reasons.append(f"{way.__name__.strip('_').replace('_', ' ')}: {err}")
    found = program(name)
    if found is None:
        note.write_text("; ".join(reasons), encoding="utf-8")
        print(f"{name}: left out: {'; '.join(reasons)}")
        return False
    print(f"{name}: {_output((str(found), 'version' if name == 'restic' else '--version')).splitlines()[0]}")
    return True


def _restic_on_path() -> None:
    _take(_on_path("restic"))


def _restic_from_debian() -> None:
    _take(_unpacked("restic", "restic") / "usr" / "bin" / "restic")


def _borg_from_pypi() -> None:
    _build_borg({})


def _borg_from_pypi_with_headers() -> None:
    _unpacked("headers", *HEADERS)
    # What they link to is named after the release: libssl3, libssl3t64
    root = _unpacked("headers", *_libraries_of(PEERS / "headers"))
    triplet = next((path.name for path in (root / "usr" / "lib").glob("*-linux-gnu*")), "")
    libraries = [root / part / triplet for part in ("usr/lib", "lib")]
    flags = {
        "CFLAGS": f"-I{root}/usr/include -I{root}/usr/include/{triplet}",
        "LDFLAGS": " ".join(f"-L{path} -Wl,-rpath,{path}" for path in libraries),
    }
    _build_borg({**dict.fromkeys(_PREFIXES, str(root / "usr")), **flags})


def _borg_on_path() -> None:
    _take(_on_path("borg"))


def _borg_from_debian() -> None:
    if os.geteuid() != 0:
        raise Unavailable("not root")
    _apt("install", "--yes", "--no-install-recommends", "borgbackup")
    _take(_on_path("borg"))


def _build_borg(environment: Mapping[str, str]) -> None:
    place = PEERS / "borg"
    if not (place / "bin" / "pip").exists():
        _call((sys.executable, "-m", "venv", str(place)))
    # No cache: a wheel built against unpacked headers must not be taken for another checkout's.
    _call(
        (str(place / "bin" / "pip"), "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check", BORG), environment
    )
    _call((str(place / "bin" / "borg"), "--version"))
    _take(place / "bin" / "borg")


def _unpacked(name: str, *packages: str) -> Path:
    """Download Debian packages and unpack them below .tools/peers/NAME; needs no right but the network."""
    root, downloads = PEERS / name, PEERS / f"{name}.debs"
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Unavailable("no Debian packages on this machine")
    downloads.mkdir(exist_ok=True)
    (root / "about").mkdir(parents=True, exist_ok=True)
    try:
        _apt("download", *packages, directory=downloads)
    except Unavailable:
        if os.geteuid() != 0:
            raise
        _apt("update", "--quiet")  # a new machine has no lists of packages yet
        _apt("download", *packages, directory=downloads)
    for package in sorted(downloads.glob("*.deb")):
        _call(("dpkg-deb", "-x", str(package), str(root)))
        _call(("dpkg-deb", "-e", str(package), str(root / "about" / package.name.partition("_")[0])))
    shutil.rmtree(downloads)
    return root


def _libraries_of(root: Path) -> list[str]:
    """Return the packages of libraries that unpacked -dev packages depend on."""
    depends = [
        line.removeprefix("Depends:")
        for control in root.glob("about/*/control")
        for line in control.read_text(encoding="utf-8").splitlines()
        if line.startswith("Depends:")
    ]
    names = {word.split()[0] for line in depends for word in line.split(",")}
    return sorted(name for name in names if name.startswith("lib") and not name.endswith("-dev") and name != "libc6")


def _apt(*words: str, directory: Path | None = None) -> None:
    sandbox = ("-o", "APT::Sandbox::User=root") if os.geteuid() == 0 else ()
    if shutil.which("apt-get") is None:
        raise Unavailable("no apt-get on this machine")
    _call(("apt-get", *sandbox, *words), directory=directory)


def _on_path(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise Unavailable("not there")
    return Path(found)


def _take(path: Path) -> None:
    link = PROGRAMS / path.name
    link.unlink(missing_ok=True)
    link.symlink_to(path)


def _call(command: tuple[str, ...], environment: Mapping[str, str] | None = None, *, directory: Path | None = None) -> None:
    done = subprocess.run(
        command, cwd=directory, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        telling = [line for line in lines if line.startswith(("Exception:", "ERROR:", "E:", "fatal"))] or lines
        raise Unavailable(f"{command[0]} ended with {done.returncode}: {telling[0] if telling else ''}")


def _output(command: tuple[str, ...]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
