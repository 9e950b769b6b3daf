"""The commands of the documentation do, on a real agent and containerd, what the pages say.

Each page with blocks below `<!-- try -->` is followed from its first command to its last, as its
reader would. The host's paths lie below a root of the test's own, and so do those in the commands.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import Agent
from support.containerd import Containerd
from support.documented import Command, commands
from support.host import HOST_ROOT, without_settings
from support.waiting import LIMIT_SECONDS, wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.needs("containerd", "runc", "unshare", "mount", "skopeo"),
    pytest.mark.skipif(os.geteuid() != 0, reason="the directories of the pages are root's"),
]
DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(page.name for page in DOCS.glob("*.md") if next(commands(page), None))
PAGES = [name for name in PAGES if name.count(".") == 1]  # other languages have the same commands
OWN = re.compile(r"(?<![\w.-])/(?=(?:var/lib/(?:airside|rancher)|etc|media|srv|mnt)\b)")
"""Where a path begins that is below the test's root."""


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    with Containerd(None, tmp_path_factory.mktemp("containerd")) as made:
        yield made


class Reader:
    """Somebody who pastes the commands of a page into a shell."""

    def __init__(self, home: Path, agent: Agent, containerd: Containerd) -> None:
        self.root, self.agent = home / "root", agent
        self.work, programs = home / "work", home / "bin"
        self.work.mkdir()
        programs.mkdir()
        _program(programs / "airside", f'exec "{sys.executable}" -m airside "$@"')
        _program(programs / "ctr", _ctr(containerd))
        self.environ = without_settings() | {
            HOST_ROOT: str(self.root),
            "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
            "AIRSIDE_RUNTIME": str(containerd.socket),
        }
        self.address = agent.registry

    def paste(self, command: Command) -> None:
        """Run it, again and again where that changes nothing, until it does what is shown."""
        if not command.is_repeatable:
            self.agent.wait_idle()
            done = self._run(command)
            assert self._is_as_shown(command, done), self._report(command, done)
            return
        last: list[subprocess.CompletedProcess[str]] = []

        def does() -> bool:
            last[:] = [self._run(command)]
            return self._is_as_shown(command, last[0])

        wait_until(does, lambda: self._report(command, last[0]))

    def _run(self, command: Command) -> "subprocess.CompletedProcess[str]":
        words = OWN.sub(f"{self.root}/", command.words).replace("127.0.0.1:5050", self.address)
        return subprocess.run(
            ["bash", "-c", words],
            cwd=self.work,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )

    def _is_as_shown(self, command: Command, done: "subprocess.CompletedProcess[str]") -> bool:
        return done.returncode == command.code and not command.missing(self._printed(done))

    def _printed(self, done: "subprocess.CompletedProcess[str]") -> str:
        """What it printed on this host, and with archives as a terminal shows them."""
        text = done.stdout.replace(f"{self.work}/", "").replace(str(self.root), "")
        text = text.replace(self.address, "127.0.0.1:5050")
        return text + "\n" + text.replace("/var/lib/airside/images/", "")

    def _report(self, command: Command, done: "subprocess.CompletedProcess[str]") -> str:
        missing = command.missing(self._printed(done))
        return (
            f"{command.words}: exit code {done.returncode}, not printed {missing}:\n{done.stdout}"
        )


def _program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def _ctr(containerd: Containerd) -> str:
    """ctr of this containerd; what `run` writes goes below the containerd's own directory."""
    own = (
        f"--fifo-dir {containerd.home}/fifo --runc-root {containerd.home}/runc"
        f" --snapshotter {containerd.options.snapshotter}"
    )
    return f"""\
for word; do
    shift
    set -- "$@" "$word"
    [ "$word" != run ] || set -- "$@" {own}
done
exec {containerd.programs}/ctr -a {containerd.socket} "$@\""""


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_do_what_it_says(page, tmp_path, containerd):
    root = tmp_path / "root"
    images = root / "var/lib/airside/images"
    for directory in (images, root / "etc", root / "media/stick"):
        directory.mkdir(parents=True)
    environ: dict[str, str | None] = {
        HOST_ROOT: str(root),
        "AIRSIDE_REGISTRY_NAMES": "127.0.0.1:5050",
    }
    flags = ["--runtime", str(containerd.socket)]
    with Agent(images, images.with_name("data"), environ=environ, flags=flags) as agent:
        agent.wait_for(
            lambda: [each for each in agent.status()["runtimes"] if each["connected"]],
            what="connected",
        )
        reader = Reader(tmp_path, agent, containerd)
        for command in commands(DOCS / page):
            reader.paste(command)
