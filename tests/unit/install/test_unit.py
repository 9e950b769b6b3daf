"""The text of the unit; what systemd itself says of it is in tests/component/test_install.py."""

import configparser

import pytest

from airside.install.targets import TARGETS
from airside.install.unit import Place, drop_in_text, unit_text


def values(text, key):
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


def place_of(name, **others):
    target = TARGETS[name]
    return Place(services=target.services, containerd_root=target.containerd_root, **others)


@pytest.mark.parametrize("name", TARGETS)
def test_one_writable_mount_has_the_data_directory_and_containerds_root(name):
    place = place_of(name)
    [mount] = place.writable
    for path in (place.data, place.containerd_root):
        assert path.startswith(mount + "/")
    assert mount == ("/var" if name == "microk8s" else "/var/lib")
    assert mount in values(unit_text(place), "ReadWritePaths")[0]


@pytest.mark.parametrize("name", TARGETS)
def test_what_belongs_to_others_in_that_mount_stays_read_only(name):
    protected = place_of(name).protected
    assert {"/var/lib/dpkg", "/var/lib/systemd", "/var/lib/kubelet"} <= set(protected)
    assert ("/var/spool" in protected) is (name == "microk8s")


def test_a_protected_directory_that_is_used_is_not_protected():
    place = Place(data="/var/lib/cni/airside", images=("/var/lib/cloud/images",))
    assert not {"/var/lib/cni", "/var/lib/cloud"} & set(place.protected)


def test_directories_on_different_mounts_are_writable_each():
    place = Place(data="/srv/airside", has_links=False)
    assert place.writable == ("/var/lib/airside", "/srv/airside", "/var/lib/containerd")


def test_directories_with_nothing_above_them_but_the_root_leave_the_system_read_only():
    text = unit_text(Place(data="/srv/airside"))
    assert values(text, "ProtectSystem") == ["full"]
    assert not values(text, "ReadWritePaths")


def test_the_unit_starts_before_whoever_pulls_and_after_its_mounts():
    text = unit_text(place_of("k3s"))
    assert values(text, "Before") == ["k3s.service k3s-agent.service"]
    [mounts] = values(text, "RequiresMountsFor")
    assert mounts.split()[-1] == TARGETS["k3s"].containerd_root
    assert "network-online.target" not in values(text, "After")[0]


def test_paths_and_arguments_are_written_as_systemd_reads_them():
    place = Place(program=("/opt/100% a$b/airside", "-m"), data='/srv/my "data"', has_links=False)
    text = unit_text(place)
    assert values(text, "ExecStart") == ['"/opt/100%% a$$b/airside" -m run']
    assert '"-/srv/my \\"data\\""' in values(text, "ReadWritePaths")[0]
    assert '"/srv/my \\"data\\""' in values(text, "RequiresMountsFor")[0]


def test_a_group_for_the_commands_gets_what_it_needs():
    assert values(unit_text(Place()), "CapabilityBoundingSet") == ["CAP_DAC_READ_SEARCH"]
    [found] = values(unit_text(Place(data_group="ops")), "CapabilityBoundingSet")
    assert {"CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"} < set(found.split())


def test_a_host_like_the_packages_adds_nothing_to_their_unit():
    assert drop_in_text(Place()) == ""


def test_a_drop_in_replaces_what_is_writable():
    text = drop_in_text(place_of("microk8s", data_group="ops"))
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read_string(text)
    assert parser.sections() == ["Unit", "Service"]
    assert values(text, "ReadWritePaths") == ["", "-/var"]
    assert values(text, "ReadOnlyPaths")[0] == ""
    assert "CAP_SETUID" in text


def test_the_packages_unit_is_the_usual_one(request):
    file = request.config.rootpath / "packaging/airside.service"
    assert file.read_text() == unit_text(Place())
