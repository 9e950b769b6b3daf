import pytest

from airside.importer.watch.mount_table import MountTable

MOUNTS = r"""
22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /mnt rw - tmpfs tmpfs rw
31 22 0:40 / /mnt/share rw,relatime master:2 - nfs4 host:/share rw
32 22 0:41 / /mnt/with\040space rw - fuse.sshfs host: rw
33 22 0:42 / /mnt rw - overlay overlay rw
""".strip()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/mntx", "ext4"),
        ("/mnt/share/images", "nfs4"),
        ("/mnt/sharex", "overlay"),
        ("/mnt/with space", "fuse.sshfs"),
    ],
)
def test_the_file_system_is_that_of_the_deepest_and_last_mount(path, kind):
    assert MountTable.parse(MOUNTS).covering(path).kind == kind


def test_the_mounts_below_a_directory_are_given_each_point_once():
    table = MountTable.parse(MOUNTS)
    below = {mount.point: mount.kind for mount in table.below("/mnt")}
    assert below == {"/mnt/share": "nfs4", "/mnt/with space": "fuse.sshfs"}
    assert {mount.point for mount in table.below("/")} == {
        "/mnt",
        "/mnt/share",
        "/mnt/with space",
    }
    assert table.below("/mnt/share") == []
    assert table.below("/mn") == []


def test_a_line_of_another_form_is_passed_over():
    table = MountTable.parse("nothing\n\n" + MOUNTS + "\n1 2 3 - x\nx 1 8:1 / /a rw - ext4 d rw")
    assert len(table.mounts) == 5
    assert MountTable.parse("").covering("/a").kind == ""


@pytest.mark.parametrize(
    ("kind", "remote", "keeps"),
    [
        ("ext4", False, True),
        ("overlay", False, True),
        ("nfs4", True, True),
        ("fuse.sshfs", True, False),
        ("cifs", True, False),
        ("vfat", False, False),
        ("exfat", False, False),
        ("fuseblk", False, False),
    ],
)
def test_what_a_file_system_can_be_trusted_with(kind, remote, keeps):
    mount = MountTable.parse(f"1 1 0:1 / /m rw - {kind} x rw").covering("/m/a")
    assert (mount.is_remote, mount.keeps_inodes) == (remote, keeps)
