"""When a runtime unpacks layers of an archive that is being read."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from airside.containerd.early_unpacks import EarlyUnpacks

CORES = 2


def unpacks(monkeypatch: pytest.MonkeyPatch, *, load: float, writes: bool = True) -> EarlyUnpacks:
    monkeypatch.setattr(os, "cpu_count", lambda: CORES)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    unpacker: Any = SimpleNamespace(early_means=lambda *_: SimpleNamespace(identity="airside"))
    tars: Any = SimpleNamespace(open=None)
    return EarlyUnpacks(unpacker, "airside", tars, lambda: writes)


@pytest.mark.parametrize(("load", "begins"), [(0.0, True), (4.0, True), (4.1, False)])
def test_layers_are_unpacked_early_only_while_a_core_idles(
    *, load: float, begins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = unpacks(monkeypatch, load=load)
    early.pass_begins(is_ours=True)
    assert (early.begin() is not None) is begins


@pytest.mark.parametrize(("is_ours", "writes"), [(False, True), (True, False), (None, True)])
def test_layers_are_unpacked_early_only_where_we_publish_and_write(
    *, is_ours: bool | None, writes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = unpacks(monkeypatch, load=0.0, writes=writes)
    if is_ours is not None:  # else: nobody knows yet whether another agent has the runtime
        early.pass_begins(is_ours=is_ours)
    assert early.begin() is None
