"""Where files lie and which second names they have, by mount tables as they are found in the field."""

from __future__ import annotations

import pytest

from continuum_tasks.sqlite.mounts import is_mount_point, location, mount_of, network_file_system, parse_mounts, second_name

HOST = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw - proc proc rw
40 22 8:2 / /srv rw,relatime shared:2 - xfs /dev/sdb1 rw
"""
DOCKER_FILE = """\
600 500 0:50 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
601 600 0:51 / /proc rw - proc proc rw
610 600 8:2 /app/app.db /data/app.db rw,relatime master:2 - xfs /dev/sdb1 rw
611 600 8:1 /var/lib/docker/containers/x/hosts /etc/hosts rw - ext4 /dev/sda1 rw
"""
DOCKER_DIRECTORY = DOCKER_FILE.replace("/app/app.db /data/app.db", "/app /data")
# kubelet binds the file of a volume to volume-subpaths first, on the host
SUBPATH = HOST + ("70 22 8:2 /vol/app.db /var/lib/kubelet/pods/1-2/volume-subpaths/data/app/0 rw shared:2 - xfs /dev/sdb1 rw\n")
PODMAN = DOCKER_FILE.replace("overlay overlay", "fuse.fuse-overlayfs fuse-overlayfs")
SPACES = HOST + "80 40 8:2 /my\\040data/a\\134b.db /srv/other\\040name.db rw - xfs /dev/sdb1 rw\n"
BTRFS = """\
22 1 0:30 /@ / rw,relatime shared:1 - btrfs /dev/sda1 rw,subvolid=256,subvol=/@
41 22 0:30 /@home /home rw,relatime shared:1 - btrfs /dev/sda1 rw,subvolid=257,subvol=/@home
"""
BTRFS_CONTAINER = DOCKER_FILE.replace("8:2 /app/app.db", "0:30 /@home/me/app.db")


@pytest.mark.parametrize(
    ("path", "own", "others", "found"),
    [
        ("/data/app.db", DOCKER_FILE, (), "/data/app.db"),  # inside the container
        ("/srv/app/app.db", HOST, (DOCKER_FILE,), "/data/app.db"),  # on its host
        ("/srv/app/app.db", HOST, (HOST, PODMAN), "/data/app.db"),
        ("/data/app.db", DOCKER_DIRECTORY, (), None),
        ("/srv/app/app.db", HOST, (DOCKER_DIRECTORY,), None),
        ("/srv/app/other.db", HOST, (DOCKER_FILE,), None),
        ("/app/app.db", HOST, (DOCKER_FILE,), None),  # the same path on another device
        ("/srv/vol/app.db", SUBPATH, (), "/var/lib/kubelet/pods/1-2/volume-subpaths/data/app/0"),
        ("/srv/my data/a\\b.db", SPACES, (), "/srv/other name.db"),
        ("/home/me/app.db", BTRFS, (BTRFS_CONTAINER,), "/data/app.db"),
        ("/home/me/app.db", BTRFS, (DOCKER_FILE,), None),
        # a sidecar that is mounted by itself
        ("/srv/app/app.db-wal", HOST, (DOCKER_FILE.replace("app.db", "app.db-wal"),), "/data/app.db-wal"),
        # a service that is confined to its file (ReadWritePaths=): the directory is the same
        ("/srv/app/app.db", HOST, (HOST + "90 40 8:2 /app/app.db /srv/app/app.db rw - xfs /dev/sdb1 rw\n",), None),
        ("/srv/app/app.db", HOST + "90 40 8:2 /app/app.db /srv/app/app.db rw - xfs /dev/sdb1 rw\n", (), None),
        # the file under the mount was replaced: the name leads to one that has no other name any more
        ("/data/app.db", DOCKER_FILE.replace("app/app.db ", "app/app.db//deleted "), (), "/data/app.db"),
        ("/srv/app/app.db", HOST, (DOCKER_FILE.replace("app/app.db ", "app/app.db//deleted "),), None),
        # two directory mounts of one directory: every name has its sidecars in the same place
        ("/srv/app/app.db", HOST + "91 22 8:2 /app /mnt rw - xfs /dev/sdb1 rw\n", (), None),
        # hidden by what was mounted over it later
        ("/srv/app/app.db", HOST + "92 22 8:2 /app/app.db /x/a.db rw - xfs s rw\n93 22 0:60 / /x rw - tmpfs t rw\n", (), None),
        # a chroot, whose root is no mount: nothing is known of the directory there
        ("/srv/app/app.db", HOST, ("95 9 8:2 /app/app.db /a.db rw - xfs /dev/sdb1 rw\n",), "/a.db"),
        ("/srv/app/app.db", "", (DOCKER_FILE,), None),
        ("/srv/app/app.db", "/dev/sda1 / ext4 rw 0 0\n", (DOCKER_FILE,), None),  # /proc/mounts tells of no roots
    ],
)
def test_a_file_mounted_by_itself_has_a_second_name(path: str, own: str, others: tuple[str, ...], found: str | None) -> None:
    assert second_name(path, parse_mounts(own), [parse_mounts(text) for text in others]) == found


@pytest.mark.parametrize(
    ("path", "text", "kind"),
    [
        ("/host_mnt/app/a.db", "1 0 0:2 / / rw - overlay o rw\n2 1 0:3 /Users /host_mnt rw - fakeowner f rw\n", "fakeowner"),
        ("/data/a.db", "1 0 0:2 / / rw - overlay o rw\n2 1 0:3 / /data rw - fuse.grpcfuse grpcfuse rw\n", "fuse.grpcfuse"),
        ("/data/a.db", "1 0 0:2 / / rw - overlay o rw\n2 1 0:3 / /data rw - virtiofs virtiofs0 rw\n", "virtiofs"),
        ("/mnt/c/a.db", "1 0 8:2 / / rw - ext4 d rw\n2 1 0:3 / /mnt/c rw - 9p C:\\134 rw,aname=drvfs;path=C:\\134\n", "9p"),
        ("/mnt/c/a.db", "1 0 8:2 / / rw - lxfs rootfs rw\n2 1 0:3 / /mnt/c rw - drvfs C: rw\n", "drvfs"),
        ("/vagrant/a.db", "1 0 8:2 / / rw - ext4 d rw\n2 1 0:3 / /vagrant rw - vboxsf vagrant rw\n", "vboxsf"),
        ("/media/psf/a.db", "1 0 8:2 / / rw - ext4 d rw\n2 1 0:3 / /media/psf rw - prl_fs psf rw\n", "prl_fs"),
        ("/mnt/hgfs/a.db", "1 0 8:2 / / rw - ext4 d rw\n2 1 0:3 / /mnt/hgfs rw - fuse.vmhgfs-fuse v rw\n", "fuse.vmhgfs-fuse"),
        ("/mnt/user/a.db", "1 0 8:2 / / rw - ext4 d rw\n2 1 0:3 / /mnt/user rw - fuse.shfs shfs rw\n", "fuse.shfs"),
        ("/home/me/a.db", "1 0 8:2 / / rw - wslfs rootfs rw\n", None),
        ("/data/app.db", PODMAN, None),
        ("/var/x.db", PODMAN, None),
        # a local disk on top of a share, and a share that a local disk hides
        ("/n/d/a.db", "1 0 0:2 / / rw - nfs4 f rw\n2 1 8:3 / /n/d rw - ext4 d rw\n", None),
        ("/n/d/a.db", "1 0 8:2 / / rw - ext4 f rw\n2 1 0:3 / /n/d rw - nfs4 d rw\n3 1 8:9 / /n rw - xfs e rw\n", None),
        ("/n/a.db", "1 0 8:2 / / rw - ext4 f rw\n2 1 0:3 / /n rw - nfs4 d rw\n3 2 8:9 / /n rw - xfs e rw\n", None),
    ],
)
def test_the_mount_a_file_is_seen_through_decides(path: str, text: str, kind: str | None) -> None:
    assert network_file_system(path, text) == kind


def test_a_location_is_the_same_by_every_name() -> None:
    assert location("/srv/app/app.db", parse_mounts(HOST)) == ("8:2", "/app/app.db")
    assert location("/data/app.db", parse_mounts(DOCKER_FILE)) == ("8:2", "/app/app.db")
    assert location("/data/app.db", parse_mounts(DOCKER_DIRECTORY)) == ("8:2", "/app/app.db")


def test_a_mount_point_is_told_from_a_file_below_one() -> None:
    assert is_mount_point("/data/app.db", parse_mounts(DOCKER_FILE))
    assert not is_mount_point("/data/app.db", parse_mounts(DOCKER_DIRECTORY))
    assert not is_mount_point("/data/app.db", ())


def test_lines_that_cannot_be_read_are_passed_over() -> None:
    assert parse_mounts("short\n\n1 2 3\n") == parse_mounts("1 2 3\n")
    assert mount_of("/a", parse_mounts("short line\n")) is None


def test_a_table_with_a_circle_ends_nobody() -> None:
    circle = parse_mounts("1 1 0:1 / / rw - ext4 a rw\n2 3 0:2 / /a rw - xfs b rw\n3 2 0:3 / /a rw - xfs c rw\n")
    assert mount_of("/a/b", circle) == circle[0]
    assert mount_of("/a/b", parse_mounts("1 2 0:1 / / rw - ext4 a rw\n2 1 0:2 / /a rw - xfs b rw\n")) is not None
