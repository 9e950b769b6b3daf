"""Death and failure at every fault point: nothing half done is seen, and all comes right after.

The scenario drops three archives, replaces one (a tag moves, one goes, one comes) while a fourth
comes, and removes two. It runs with a lean agent (`support.lean`); a sample with the whole one.
"""

import asyncio
import contextlib
import itertools
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest

import airside
from airside.core import failpoints as faults
from airside.core.errors import StoreError
from airside.oci.digest import Digest
from support.agent import Agent
from support.images import TestImage, docker_archive, oci_archive, random_image, random_index
from support.lean import Lean, lean, settings_for
from support.size import sized
from support.sound import check_sound, pull_all, pull_at_once, state_of
from support.warm import run_until_killed

pytestmark = pytest.mark.system

T = TypeVar("T")
STEPS = ("drop", "update", "remove")
Case = tuple[str, str, T]
"""A step, a fault point, and at which visit or with which error."""

IMPORTING = tuple(
    point
    for point in faults.POINTS
    if point not in {"catalog.in_remove", "catalog.after_remove", "store.before_delete"}
)
REMOVING = (
    "catalog.in_remove",
    "catalog.after_remove",
    "store.before_delete",
    "store.index_written",
    "store.index_renamed",
)
DISK = tuple(p for p in faults.POINTS if p.startswith(("ingest.", "store.")))
"""Where an OSError can come from; SQLite's errors are not OSErrors."""
LATER_PASSES = {
    "ingest.after_create": (4,),
    "ingest.after_write": (3, 6),
    "store.before_sync": (2,),
    "store.after_rename": (2, 5, 9),
    "catalog.in_import": (2, 3),
    "catalog.after_import": (3,),
    "store.index_renamed": (2,),
    "store.before_delete": (3,),
}


def _cases() -> list[Case[int]]:
    cases: list[Case[int]] = [("drop", point, 1) for point in IMPORTING]
    cases += [("update", point, 1) for point in (*IMPORTING, "store.before_delete")]
    cases += [("remove", point, 1) for point in REMOVING]
    for point, passes in LATER_PASSES.items():
        step = "remove" if point == "store.before_delete" else "drop"
        cases += [(step, point, number) for number in passes]
    return cases


CASES = _cases()


def _chains(cases: list[Case[T]]) -> list[tuple[Case[T], ...]]:
    """Cases that follow one another in one scenario: a drop, then an update, then a removal."""
    by_step = ([case for case in cases if case[0] == step] for step in STEPS)
    return [tuple(filter(None, chain)) for chain in itertools.zip_longest(*by_step)]


def _ids(case: Case[T]) -> str:
    return f"{case[0]}-{case[1]}@{case[2]}"


def _ids_of_chain(chain: tuple[Case[T], ...]) -> str:
    return "+".join(map(_ids, chain))


@contextlib.contextmanager
def _told(case: Case[T]) -> Iterator[None]:
    """Names the case of a chain that failed."""
    try:
        yield
    except BaseException as exc:
        exc.add_note(_ids(case))
        raise


# The scenario


@cache
def _image(seed: str, *, media: str = "oci") -> TestImage:
    return random_image(seed, layers=2, layer_bytes=3000, media=media)


@dataclass
class Scenario:
    """Directories and what is to be seen: by archive, reference → digest."""

    root: Path
    on_removal: str = "delete"
    archives: dict[str, dict[str, Digest]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.images.mkdir()

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def expected(self) -> dict[str, Digest]:
        return {name: digest for found in self.archives.values() for name, digest in found.items()}

    def do(self, step: str) -> None:
        """Change the directory."""
        {"drop": self._drop, "update": self._update, "remove": self._remove}[step]()

    def _drop(self) -> None:
        apps = {"example.com/app:1": _image("app/1"), "example.com/app:stable": _image("app/s")}
        self._put("a.tar", oci_archive, apps)
        tool = _image("tool/2", media="docker")
        self._put("b.tar.zst", docker_archive, {"tool:2": tool}, compression="zstd")
        multi = random_index("multi", layers=1, layer_bytes=3000)
        self._put("c.tar.gz", oci_archive, {"example.com/multi:1": multi}, compression="gzip")

    def _update(self) -> None:
        app = _image("app/2")
        self._put("a.tar", oci_archive, {("example.com/app:2", "example.com/app:stable"): app})
        self._put("d.tar", docker_archive, {"extra": _image("extra", media="docker")})

    def _remove(self) -> None:
        for name in ("b.tar.zst", "c.tar.gz"):
            (self.images / name).unlink()
            del self.archives[name]

    def _put(
        self, name: str, write: Callable[..., dict[str, Digest]], images: object, **how: str
    ) -> None:
        """Write beside, then rename over."""
        temporary = self.root / name
        self.archives[name] = write(temporary, images, **how)
        temporary.replace(self.images / name)


async def _run(scenario: Scenario, *, look_first: Callable[[str], None] | None = None) -> None:
    """Run the lean agent until all is done; `look_first` gets the address before any import."""
    async with lean(settings_for(scenario.images, scenario.data, scenario.on_removal)) as agent:
        if look_first is not None:
            await asyncio.to_thread(look_first, agent.address)
        await agent.scan()
        await _repair(agent)
        assert await asyncio.to_thread(pull_all, agent.address) == scenario.expected
        check_sound(scenario.data, scenario.expected, running=True)


async def _repair(agent: Lean) -> None:
    """As the agent does it every few minutes: a pass that fails is tried again."""
    try:
        await agent.repair()
    except StoreError:
        await agent.repair()


def _prepared(root: Path, step: str) -> tuple[Scenario, dict[str, dict[str, Digest]]]:
    """A scenario just before the agent sees `step`, and what was to be seen until then."""
    scenario = Scenario(root)
    for earlier in STEPS[: STEPS.index(step)]:
        scenario.do(earlier)
        asyncio.run(_run(scenario))
    return scenario, _do(scenario, step)


def _do(scenario: Scenario, step: str) -> dict[str, dict[str, Digest]]:
    """Change the directory; gives what was to be seen until then."""
    before = {name: dict(found) for name, found in scenario.archives.items()}
    scenario.do(step)
    return before


def _each_archive_is_old_or_new(
    seen: dict[str, Digest],
    before: dict[str, dict[str, Digest]],
    after: dict[str, dict[str, Digest]],
) -> None:
    """Of each archive all is seen as before or all as after, never a part."""
    rest = dict(seen)
    for archive in before | after:
        old, new = before.get(archive, {}), after.get(archive, {})
        part = {name: rest.pop(name) for name in old | new if name in rest}
        assert part in (old, new), f"{archive} is seen in part"
    assert rest == {}


def _unchanged_by_a_restart(scenario: Scenario) -> None:
    """What could be pulled before can be pulled from the same state."""

    async def restart() -> None:
        settings = settings_for(scenario.images, scenario.data, scenario.on_removal)
        async with lean(settings) as agent:
            await agent.scan()
            await agent.repair()

    before = state_of(scenario.data)
    asyncio.run(restart())
    assert state_of(scenario.data) == before


# Tests


def test_every_point_is_used_once_in_the_source() -> None:
    source = Path(airside.__file__).parent
    texts = [path.read_text() for path in source.rglob("*.py") if path.name != "failpoints.py"]
    used = Counter(point for text in texts for point in re.findall(r'\bfault\("([^"]+)"\)', text))
    publishing = (*faults.PUBLISHING, *faults.EARLY)
    assert used == Counter((*faults.POINTS, *faults.PUSHING, *publishing, *faults.SCRUBBING))


def test_the_scenario_passes_every_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visits: dict[str, Counter[str]] = {}
    scenario = Scenario(tmp_path)
    for step in STEPS:
        passed = visits[step] = Counter()
        scenario.do(step)
        with monkeypatch.context() as patch:
            patch.setattr(faults, "_armed", object())
            patch.setattr(faults, "_fire", lambda point, passed=passed: passed.update([point]))
            asyncio.run(_run(scenario))
    missed = [case for case in CASES if visits[case[0]][case[1]] < case[2]]
    assert missed == []
    for chain in (*_chains(CASES), *_chains(_error_cases())):
        assert STEPS[: len(chain)] == tuple(step for step, _, _ in chain), "no step is left out"
    assert {point for _, point, _ in CASES} == set(faults.POINTS)


@pytest.mark.parametrize("chain", _chains(CASES), ids=_ids_of_chain)
def test_a_kill_leaves_nothing_half_done(chain: tuple[Case[int], ...], tmp_path: Path) -> None:
    scenario = Scenario(tmp_path)
    for case in chain:
        with _told(case):
            _kill_at(scenario, case)


def _kill_at(scenario: Scenario, case: Case[int]) -> None:
    step, point, number = case
    before = _do(scenario, step)
    places = (scenario.images, scenario.data, scenario.on_removal)
    run_until_killed("support.lean", *places, fault=f"{point}=kill@{number}")

    def look(address: str) -> None:
        _each_archive_is_old_or_new(pull_all(address), before, scenario.archives)

    asyncio.run(_run(scenario, look_first=look))
    check_sound(scenario.data, scenario.expected)
    _unchanged_by_a_restart(scenario)


def _error_cases() -> list[Case[str]]:
    """The errors take turns; each point has all of them in `make torture`."""
    found: list[Case[str]] = []
    for case, (step, point, number) in enumerate(CASES):
        of_disk = ("oserror:ENOSPC", "oserror:EIO") if point in DISK else ()
        actions = ("error", *of_disk)
        chosen = sized(actions[case % len(actions) :][:1], actions)
        found += [(step, point, f"{action}@{number}") for action in chosen]
    return found


@pytest.mark.parametrize("chain", _chains(_error_cases()), ids=_ids_of_chain)
def test_after_an_error_the_agent_comes_right_by_itself(
    chain: tuple[Case[str], ...], tmp_path: Path
) -> None:
    scenario = Scenario(tmp_path)
    for case in chain:
        with _told(case):
            _fail_at(scenario, case)


def _fail_at(scenario: Scenario, case: Case[str]) -> None:
    step, point, action = case
    _do(scenario, step)
    faults.arm(f"{point}={action}")
    try:
        asyncio.run(_run(scenario))
        assert faults._armed is None, "the fault did not fire"
    finally:
        faults.arm(None)
    check_sound(scenario.data, scenario.expected)
    _unchanged_by_a_restart(scenario)


def test_what_is_listed_can_be_pulled_at_any_moment(tmp_path: Path) -> None:
    scenario = Scenario(tmp_path, on_removal="keep")
    seen: set[tuple[str, Digest]] = set()
    failures: list[BaseException] = []
    done = threading.Event()

    def keep_pulling(address: str) -> None:
        while not done.is_set():
            try:
                seen.update(pull_all(address).items())
            except BaseException as exc:  # noqa: BLE001 - told by the test's own thread
                failures.append(exc)

    async def run() -> None:
        async with lean(settings_for(scenario.images, scenario.data, "keep")) as agent:
            puller = threading.Thread(target=keep_pulling, args=(agent.address,))
            puller.start()
            try:
                for number in range(40):
                    image = _image(f"moving/{number}")
                    names = (f"example.com/app:{number}", "example.com/app:stable")
                    scenario._put(f"{number % 5}.tar", oci_archive, {names: image})
                    await agent.scan()
            finally:
                done.set()
                await asyncio.to_thread(puller.join)

    asyncio.run(run())
    assert failures == []
    assert len({name for name, _ in seen}) > 10


# The whole agent


SAMPLE = (
    ("drop", "ingest.after_write", 2),
    ("drop", "catalog.after_settle", 1),
    ("update", "catalog.in_import", 1),
    ("remove", "store.before_delete", 2),
)
MORE = (
    ("drop", "store.after_rename", 3),
    ("update", "import.after_index", 1),
    ("remove", "catalog.after_remove", 1),
)
ERRORS = (
    ("drop", "store.before_sync", "oserror:ENOSPC"),
    ("update", "store.index_written", "error"),
    ("remove", "store.before_delete", "oserror:ENOSPC"),
)
MORE_ERRORS = (
    ("drop", "store.before_sync", "error"),
    ("update", "store.index_written", "oserror:ENOSPC"),
    ("remove", "store.before_delete", "error"),
)
QUICK = {"AIRSIDE_RECONCILE_SECONDS": "0.5", "AIRSIDE_RETRY_SECONDS": "0.2"}


def _whole(scenario: Scenario, *, fault: str | None = None) -> Agent:
    return Agent(
        scenario.images,
        scenario.data,
        environ=QUICK,
        tables={"on_removal": scenario.on_removal},
        fault=fault,
    )


def _comes_right(agent: Agent, scenario: Scenario) -> None:
    def right() -> bool:
        found = {name: item["digest"] for name, item in agent.images().items()}
        return found == {name: str(digest) for name, digest in scenario.expected.items()}

    agent.wait_for(right, what="the images are as the directory says")
    assert pull_at_once(agent.registry) == scenario.expected  # what is not wanted goes meanwhile


@pytest.mark.parametrize("case", sized(SAMPLE, SAMPLE + MORE), ids=_ids)
def test_the_whole_agent_is_killed_and_comes_right(case: Case[int], tmp_path: Path) -> None:
    step, point, number = case
    scenario, before = _prepared(tmp_path, step)
    agent = _whole(scenario, fault=f"{point}=kill@{number}")
    agent.launch()
    assert agent.wait_exit() == -9, agent.log
    with _whole(scenario) as agent:
        _each_archive_is_old_or_new(pull_at_once(agent.registry), before, scenario.archives)
        _comes_right(agent, scenario)
        agent.wait_for(
            lambda: _is_sound(scenario, running=True), what="the data directory is right"
        )
    check_sound(scenario.data, scenario.expected)


@pytest.mark.parametrize("case", sized(ERRORS, ERRORS + MORE_ERRORS), ids=_ids)
def test_the_whole_agent_lives_through_an_error(case: Case[str], tmp_path: Path) -> None:
    step, point, action = case
    scenario, _ = _prepared(tmp_path, step)
    with _whole(scenario, fault=f"{point}={action}") as agent:
        _comes_right(agent, scenario)
        agent.wait_for(
            lambda: _is_sound(scenario, running=True), what="the data directory is right"
        )
    check_sound(scenario.data, scenario.expected)


def _is_sound(scenario: Scenario, *, running: bool) -> bool:
    try:
        check_sound(scenario.data, scenario.expected, running=running)
    except (AssertionError, FileNotFoundError):  # what is collected meanwhile is gone
        return False
    return True
