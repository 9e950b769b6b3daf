"""A walk of a new user through a machine without a network, with its transcript and pictures."""

import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from support.browser import PROGRAM, browsing
from support.machine import Machine
from support.waiting import wait_until

IMAGES = "/var/lib/airside/images"
PAGE = "http://127.0.0.1:5050/ui/"


class Walk:
    """Does what a user does: types commands, drops files, looks at the page.

    What was typed and answered goes to `directory/<name>.md`, pictures beside it.
    """

    def __init__(self, machine: Machine, directory: Path, name: str) -> None:
        self.machine = machine
        self.directory = directory
        self.name = name
        directory.mkdir(parents=True, exist_ok=True)
        self._transcript = directory / f"{name}.md"
        self._transcript.write_text(f"## {name.replace('-', ' ').capitalize()}\n")

    def title(self, text: str) -> None:
        self._write(f"\n### {text}\n")

    def type(self, line: str, *, code: int = 0) -> str:
        """Types a line into the machine's shell, which must end with `code`; returns the output."""
        ran = self.machine.run("sh", "-c", line)
        output = ran.stdout + ran.stderr
        self._write(f"\n```console\n# {line}\n{output}```\n")
        assert ran.returncode == code, (line, ran.returncode, output[-3000:])
        return output

    def json(self, line: str) -> Any:
        return json.loads(self.machine.done("sh", "-c", line))

    def drop(self, source: Path, name: str = "") -> None:
        """Copies an archive into the watched directory under another name, then renames it."""
        name = name or source.name
        self.machine.copy_in(source, f"{IMAGES}/.{name}.part")
        self.type(f"mv {IMAGES}/.{shlex.quote(name)}.part {IMAGES}/{shlex.quote(name)}")

    def state_of(self, name: str) -> dict[str, Any] | None:
        """What `airside archives` says of a file."""
        items = self.json("airside archives --json --all")["items"]
        found = [item for item in items if item["path"].endswith(f"/{name}")]
        return found[0] if found else None

    def settled(self, name: str, state: str) -> dict[str, Any]:
        """Waits until the archive has this state."""
        found: list[dict[str, Any] | None] = []

        def has_state() -> dict[str, Any] | None:
            found[:] = [self.state_of(name)]
            return found[0] if found[0] and found[0]["state"] == state else None

        return wait_until(has_state, lambda: (name, state, found))

    def until_said(self, line: str, *texts: str) -> str:
        """Waits until a command says these texts; that answer goes to the transcript."""
        latest = [""]

        def said() -> bool:
            ran = self.machine.run("sh", "-c", line)
            latest[0] = ran.stdout + ran.stderr
            return all(text in latest[0] for text in texts)

        wait_until(said, lambda: (line, texts, latest[0][-3000:]))
        self._write(f"\n```console\n# {line}\n{latest[0]}```\n")
        return latest[0]

    def fallback_server(self) -> str:
        """Its process in the machine; empty without one."""
        return self.machine.run("pgrep", "--full", "[f]allback-server").stdout.strip()

    @contextmanager
    def page(self, path: str = "") -> Iterator[Page]:
        """The page in a real browser, which has the machine's network: a loopback device."""
        with browsing(self._browser()) as browser:
            page = browser.new_page(viewport={"width": 1280, "height": 900}, locale="en")
            page.goto(PAGE + path)
            yield page

    def look(self, picture: str, *texts: str, path: str = "") -> None:
        """Waits until the page shows these texts, and takes a picture of it."""
        with self.page(path) as page:
            latest = [""]

            def shown() -> bool:
                page.goto(PAGE + path)
                latest[0] = page.inner_text("body")
                return all(text.casefold() in latest[0].casefold() for text in texts)

            wait_until(shown, lambda: (path, texts, latest[0][:4000]), poll_seconds=0.5)
            name = f"{self.name}-{picture}.png"
            page.screenshot(path=str(self.directory / name), full_page=True)
            self._write(f"\n![{picture}]({name})\n")

    def _browser(self) -> Path:
        """A program that starts the host's browser in the machine's network name space."""
        found = shutil.which(PROGRAM)
        assert found, f"{PROGRAM} is not here"
        enters = f"nsenter --target={self.machine.pid} --net --"
        program = self.directory / f".browser-{self.name}"
        program.write_text(f'#!/bin/sh\nexec {enters} {found} "$@"\n')
        program.chmod(0o755)
        return program

    def _write(self, text: str) -> None:
        with self._transcript.open("a") as out:
            out.write(text)


def flip_byte_of(archive: Path, member_bytes: bytes, into: Path) -> None:
    """Copies an archive with one bit of the given bytes, which it holds plainly, changed."""
    data = bytearray(archive.read_bytes())
    place = data.index(member_bytes)
    data[place + len(member_bytes) // 2] ^= 1
    into.write_bytes(data)


def free_bytes(machine: Machine) -> int:
    stat = os.statvfs(machine.root)
    return stat.f_bavail * stat.f_frsize


def has_network(machine: Machine) -> bool:
    """True if the machine has a route or a device other than the loopback."""
    routes = machine.done("cat", "/proc/net/route").splitlines()[1:]
    devices = machine.done("ls", "/sys/class/net").split()
    return bool(routes) or devices != ["lo"]
