"""Death and failure while a tag is merged: it is what it was, or merged; and comes right after."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from airside.core import failpoints as faults
from airside.core.errors import StoreError
from airside.oci.digest import Digest
from support.images import oci_archive, random_image
from support.lean import lean, settings_for
from support.sound import check_sound, pull_all
from support.warm import run_until_killed

pytestmark = pytest.mark.system

NAME = "example.com/app:1"


class Merging:
    """One platform is there, the other was dropped and is not looked at yet."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.images, self.data = root / "images", root / "data"
        self.images.mkdir()
        self.before = self._drop("amd64")
        asyncio.run(self.run())
        self._drop("arm64")

    def _drop(self, arch: str) -> Digest:
        image = random_image(arch, layers=1, layer_bytes=3000, platform=f"linux/{arch}")
        return oci_archive(self.images / f"{arch}.tar", {NAME: image})[NAME]

    async def run(self) -> dict[str, Digest]:
        """The agent until all is done; what is served then."""
        async with lean(settings_for(self.images, self.data)) as agent:
            await agent.scan()
            try:
                await agent.repair()
            except StoreError:
                await agent.repair()
            return await asyncio.to_thread(pull_all, agent.address)

    def seen(self) -> dict[str, Digest]:
        """What is served when the agent starts, before it does anything."""

        async def look() -> dict[str, Digest]:
            async with lean(settings_for(self.images, self.data)) as agent:
                return await asyncio.to_thread(pull_all, agent.address)

        return asyncio.run(look())


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Digest, Counter[str]]:
    """The digest of the merged index, and how often each fault point is passed."""
    merging = Merging(tmp_path_factory.mktemp("merged") / "run")
    passed: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faults, "_armed", object())
        patch.setattr(faults, "_fire", lambda point: passed.update([point]))
        found = asyncio.run(merging.run())
    assert found[NAME] != merging.before
    return found[NAME], passed


def _last_visits(passed: Counter[str]) -> Iterator[tuple[str, int]]:
    """The last visit of each point, and the one before: those of the merged index."""
    for point, count in sorted(passed.items()):
        for number in {count, max(1, count - 1)}:
            yield point, number


def test_a_kill_leaves_the_tag_as_it_was_or_merged(
    tmp_path: Path, merged: tuple[Digest, Counter[str]]
) -> None:
    digest, passed = merged
    assert passed["store.after_directory_sync"] > 1, "the index is committed by itself"
    for point, number in _last_visits(passed):
        merging = Merging(tmp_path / f"{point}-{number}")
        places = (merging.images, merging.data, "unpin")
        run_until_killed("support.lean", *places, fault=f"{point}=kill@{number}")
        assert merging.seen()[NAME] in {merging.before, digest}, (point, number)
        assert asyncio.run(merging.run()) == {NAME: digest}, (point, number)
        check_sound(merging.data, {NAME: digest})


def test_after_an_error_the_tag_is_merged_in_the_end(
    tmp_path: Path, merged: tuple[Digest, Counter[str]]
) -> None:
    digest, passed = merged
    for point, number in _last_visits(passed):
        merging = Merging(tmp_path / f"{point}-{number}")
        faults.arm(f"{point}=error@{number}")
        try:
            assert asyncio.run(merging.run()) == {NAME: digest}, (point, number)
        finally:
            faults.arm(None)
        check_sound(merging.data, {NAME: digest})
