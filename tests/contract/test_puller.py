"""Every puller: the one in memory, and that over CRI."""

import threading
import time

import grpc
import pytest

from airside.containerd.channel import Channel
from airside.containerd.cri import Cri
from airside.containerd.image_puller import ImagePuller
from airside.core.errors import ContainerdError, PullRefusedError, StoppedError
from support.pullers import FakePuller, cri_server
from support.waiting import LIMIT_SECONDS

NAME = "docker.io/library/app:1"


def never():
    return False


class InMemory:
    def __init__(self):
        self.puller = FakePuller()

    def hold(self, name):
        self.puller.held.add(name)

    def refuse(self, name):
        self.puller.failures[name] = PullRefusedError(f"no {name}", status="NOT_FOUND")

    def fail(self, name):
        self.puller.failures[name] = ContainerdError("dial tcp: i/o timeout", status="UNKNOWN")


class OverCri:
    def __init__(self, cri, puller):
        self.cri, self.puller = cri, puller

    def hold(self, name):
        self.cri.held.add(name)

    def refuse(self, name):
        self.cri.failures[name] = (grpc.StatusCode.NOT_FOUND, f'"{name}": not found')

    def fail(self, name):
        self.cri.failures[name] = (grpc.StatusCode.UNKNOWN, "dial tcp 10.0.0.1:443: i/o timeout")


@pytest.fixture(params=["in memory", "over CRI"])
def made(request, tmp_path):
    if request.param == "in memory":
        yield InMemory()
        return
    with cri_server(tmp_path / "s") as cri, Channel(str(tmp_path / "s")) as channel:
        yield OverCri(cri, ImagePuller(Cri(channel), "here"))


def test_what_was_pulled_is_there(made):
    assert made.puller.is_available
    assert made.puller.runtime
    assert not made.puller.has(NAME, stop=never)
    image_id = made.puller.pull(NAME, stop=never)
    assert image_id.startswith("sha256:")
    assert made.puller.has(NAME, stop=never)


def test_a_refusal_is_told_from_a_registry_that_is_away(made):
    made.refuse(NAME)
    with pytest.raises(PullRefusedError):
        made.puller.pull(NAME, stop=never)
    made.fail(NAME)
    with pytest.raises(ContainerdError) as failed:
        made.puller.pull(NAME, stop=never)
    assert not isinstance(failed.value, PullRefusedError)
    assert "i/o timeout" in failed.value.message
    assert not made.puller.has(NAME, stop=never)


def test_a_pull_that_is_stopped_ends_soon_and_pulls_nothing(made):
    made.hold(NAME)
    stop = threading.Event()
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    with pytest.raises(StoppedError):  # it would last for ever
        made.puller.pull(NAME, stop=stop.is_set)
    timer.join()
    assert not made.puller.has(NAME, stop=never)


def test_the_runtime_is_told_to_give_a_stopped_pull_up(tmp_path):
    with cri_server(tmp_path / "s") as cri, Channel(str(tmp_path / "s")) as channel:
        cri.held.add(NAME)
        with pytest.raises(StoppedError):
            ImagePuller(Cri(channel), "here").pull(NAME, stop=never_after(0.3))
        assert cri.cancelled.wait(LIMIT_SECONDS)


def never_after(seconds):
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() > deadline


def test_a_runtime_that_does_not_answer_is_away(tmp_path):
    with Channel(str(tmp_path / "s")) as channel:
        puller = ImagePuller(Cri(channel), "here")
        assert not puller.is_available
        with pytest.raises(ContainerdError) as failed:
            puller.has(NAME, stop=never)
        assert failed.value.is_away
