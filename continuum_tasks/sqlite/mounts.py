"""sqlite/mounts.py: which file systems only pretend to lock. Pure."""

from __future__ import annotations

import re
from pathlib import Path

# POSIX locks and shared memory are not coherent between hosts here, so neither SQLite's locking nor WAL can be trusted.
_NETWORK = re.compile(
    r"9p|afs|beegfs|ceph|cifs|coda|davfs|gfs2?|glusterfs|gpfs|lustre|ncpfs|nfs4?|ocfs2|orangefs|smb3|smbfs"
    r"|fuse\.(sshfs|s3fs|rclone|gcsfuse|glusterfs|ceph|goofys|juicefs|curlftpfs|davfs|mount-s3|seaweedfs)"
)


def network_file_system(path: Path, mounts: str) -> str | None:
    """Return the type of the network file system `path` lies on, or None. `mounts` is the text of /proc/self/mounts."""
    found, longest = "", -1
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_unescape(fields[1]))
        if path.is_relative_to(point) and len(point.parts) >= longest:  # of two on one point the later one is seen
            found, longest = fields[2], len(point.parts)
    return found if _NETWORK.fullmatch(found) else None


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)
