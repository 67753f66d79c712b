"""On which file systems SQLite's locks and shared memory can be trusted."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum


class FileSystemClass(StrEnum):
    """`shared`: another kernel may have the files open. `second_name`: the same files have other names on this host."""

    LOCAL = "local"
    SHARED = "shared"
    SECOND_NAME = "second_name"
    UNKNOWN = "unknown"


def _types(text: str) -> frozenset[str]:
    return frozenset(text.split())


# One kernel sees every open file, so its locks and shared memory hold. Mount types as /proc/self/mountinfo has them.
LOCAL = _types(
    "ext2 ext3 ext4 xfs btrfs zfs f2fs jfs jfs2 reiserfs reiser4 nilfs2 bcachefs minix ufs ufs2 vxfs hfs hfsplus apfs"
    " ntfs ntfs3 ntfs-3g exfat vfat msdos fuseblk udf iso9660 squashfs erofs romfs cramfs jffs2 ubifs yaffs2"
    " tmpfs ramfs rootfs devtmpfs hugetlbfs overlay overlayfs aufs ecryptfs simfs vzfs shiftfs lxfs wslfs sdcardfs"
    " fuse.fuse-overlayfs fuse.ntfs-3g fuse.ntfs fuse.exfat fuse.exfat-fuse fuse.zfs fuse.zfs-fuse fuse.ext2 fuse.ext4"
    " fuse.fuse2fs fuse.fuse-ext2 fuse.apfs fuse.lxcfs fuse.encfs fuse.gocryptfs fuse.cryfs fuse.securefs fuse.veracrypt"
    " fuse.squashfuse"
)
# Locks, or the shared memory of WAL mode, do not hold between the hosts, or the two kernels, that may open a file here.
SHARED = _types(
    "nfs nfs3 nfs4 cifs smb2 smb3 smbfs ncpfs afs coda davfs webdav 9p virtiofs vboxsf vmhgfs hgfs prl_fs prl_vtfs drvfs"
    " osxfs grpcfuse fakeowner ceph glusterfs lustre gfs gfs2 ocfs2 gpfs mmfs beegfs beegfs_nodev orangefs pvfs2 panfs acfs"
    " moosefs lizardfs cvfs quobyte weka wekafs exafs vmfs juicefs"
)
# These show files under a second name on the same host; whoever uses the first name shares no locks with us.
SECOND_NAME = _types("unionfs mergerfs fuse.mergerfs fuse.bindfs fuse.unionfs fuse.unionfs-fuse fuse.mhddfs fuse.shfs shfs")
_FUSE = ("fuse", "fuse3")


def file_system_class(kind: str) -> FileSystemClass:
    """Classify a mount type. A FUSE program that is not known to be local counts as shared: most speak to another host."""
    if kind in LOCAL:
        return FileSystemClass.LOCAL
    if kind in SECOND_NAME:
        return FileSystemClass.SECOND_NAME
    if kind in SHARED or kind in _FUSE or kind.startswith(("fuse.", "fuse3.")):
        return FileSystemClass.SHARED
    return FileSystemClass.UNKNOWN


def refusal(kind: str, accepted: Collection[str]) -> tuple[str, str] | None:
    """Return what is wrong with a database there, and the remedy; None where nothing is or the operator accepted it."""
    found = file_system_class(kind)
    if kind in accepted or found in (FileSystemClass.LOCAL, FileSystemClass.UNKNOWN):
        return None
    lift = f"if nothing else ever opens it, set accept_file_system = {kind} in its section of backup.conf"
    if found is FileSystemClass.SECOND_NAME:
        return (
            f"on a file system that shows files under a second name ({kind})",
            f"locks are not shared between the names: use the path on the disk itself, for everybody; {lift}",
        )
    return (
        f"on a network file system or shared folder ({kind})",
        f"locks do not hold there: run the agent on the host that has the disk, or move the database to a local one; {lift}",
    )


def file_system_remark(kind: str, accepted: Collection[str]) -> str:
    """Return a warning about a file system that nothing is known of, empty where there is none."""
    if not kind or kind in accepted or file_system_class(kind) is not FileSystemClass.UNKNOWN:
        return ""
    return (
        f"on a file system that is not known here ({kind}): a backup is only as good as its locks; if it is a local one,"
        f" set accept_file_system = {kind} in the section of the database in backup.conf"
    )
