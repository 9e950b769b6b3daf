"""The texts of the units that write layers; systemd checks them in component/test_install.py."""

import pytest

from airside.containerd.layer_writer import confinement
from airside.containerd.layer_writer.worker_unit import SOCKET
from airside.install.layers_unit import (
    CAPABILITIES,
    service_drop_in_text,
    service_text,
    socket_text,
)
from airside.install.targets import LAYERS_SERVICE, LAYERS_SOCKET, TARGETS
from airside.install.unit import Place, unit_text

NUMBERS = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_FSETID": 4,
    "CAP_SETPCAP": 8,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_ADMIN": 21,
    "CAP_MKNOD": 27,
    "CAP_SETFCAP": 31,
}
"""Of linux/capability.h."""


def values(text, key):
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


def test_the_service_has_the_capabilities_that_a_worker_needs_and_no_other():
    assert values(service_text(Place()), "CapabilityBoundingSet") == [" ".join(CAPABILITIES)]
    assert {NUMBERS[name] for name in CAPABILITIES} == set(confinement.WORKER_CAPABILITIES)


def test_only_root_connects_where_the_agent_looks():
    text = socket_text()
    assert values(text, "ListenSequentialPacket") == [str(SOCKET)]
    assert values(text, "SocketMode") == ["0600"]
    assert values(text, "Accept") == ["yes"]


def test_the_socket_comes_and_goes_with_the_agent():
    assert values(socket_text(), "PartOf") == ["airside.service"]
    agent = unit_text(Place())
    assert values(agent, "Wants") == [LAYERS_SOCKET]
    assert LAYERS_SOCKET in values(agent, "After")[0].split()


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_packages_service_writes_to_the_containerd_of_every_kind_of_host(target):
    [writable] = values(service_text(Place()), "ReadWritePaths")
    assert f"-{target.containerd_root}" in writable.split()
    place = Place(containerd_root=target.containerd_root)
    assert service_drop_in_text(place) == ""


def test_a_containerd_elsewhere_is_added():
    place = Place(containerd_root="/srv/my containerd")
    assert '"-/srv/my containerd"' in values(service_text(place), "ReadWritePaths")[0]
    expected = '[Service]\nReadWritePaths="-/srv/my containerd"\n'
    assert service_drop_in_text(place) == expected


@pytest.mark.parametrize("name", [LAYERS_SOCKET, LAYERS_SERVICE])
def test_the_packages_units_are_the_usual_ones(request, name):
    texts = {LAYERS_SOCKET: socket_text(), LAYERS_SERVICE: service_text(Place())}
    assert (request.config.rootpath / "packaging" / name).read_text() == texts[name]
