"""A program on a terminal of its own, and what it shows: enough of a VT100 for tests.

`Screen` understands what rich writes: the cursor's place, erasing, the alternate screen, whether
the cursor is shown; lines are written whole. Other control sequences than colours fail the test.
"""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Mapping
from struct import pack
from types import TracebackType
from typing import Self

from airside.cli.terminal import cell_width
from support.host import without_settings
from support.processes import die_with_parent
from support.waiting import LIMIT_SECONDS, wait_until

_SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])")


class Screen:
    """Lines of a terminal. `feed` takes what a program writes."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.alternate = self.hidden = False
        self.widest = 0
        self._lines = [""] * rows
        self._row, self._rest = 0, ""
        self._at_start = True

    @property
    def text(self) -> str:
        return "\n".join(self._lines)

    def feed(self, data: str) -> None:
        data, self._rest = self._rest + data, ""
        while data:
            found = _SEQUENCE.match(data)
            if found:
                self._control(found[1], found[2])
                data = data[found.end() :]
            elif data[0] == "\x1b":
                self._rest = data
                assert len(data) < 16, f"not understood: {data[:16]!r}"
                return
            else:
                self._print(data[0])
                data = data[1:]

    def _print(self, character: str) -> None:
        if character == "\n":
            self._row = min(self._row + 1, self.rows - 1)
        elif character == "\r":
            self._at_start = True
        else:
            assert character.isprintable(), repr(character)
            before = "" if self._at_start else self._lines[self._row]
            self._lines[self._row], self._at_start = before + character, False
            self.widest = max(self.widest, cell_width(self._lines[self._row].rstrip()))

    def _control(self, numbers: str, letter: str) -> None:
        if numbers in {"?1049", "?25"}:
            if numbers == "?1049":
                self.alternate = letter == "h"
                self._lines, self._row = [""] * self.rows, 0
            else:
                self.hidden = letter == "l"
        elif letter == "H":
            row = int(numbers.partition(";")[0] or 1)
            self._row, self._at_start = row - 1, True
        elif letter == "J":
            self._lines = [""] * self.rows
        else:
            assert letter in "mKA", f"not understood: {numbers}{letter}"


class OnTerminal:
    """`airside …` on a terminal. A context manager: nothing runs on after it."""

    def __init__(self, *words: object, columns: int = 80, rows: int = 24, **environ: str) -> None:
        self._words, self._environ = list(map(str, words)), environ
        self.screen = Screen(columns, rows)
        self.raw = b""

    def __enter__(self) -> Self:
        self._ours, self._theirs = pty.openpty()
        self._set_size(self.screen.columns, self.screen.rows)
        self.modes = termios.tcgetattr(self._theirs)
        environ: Mapping[str, str] = {
            **without_settings(),
            "TERM": "xterm-256color",
            **self._environ,
        }
        for name in ("COLUMNS", "LINES", *(() if "NO_COLOR" in self._environ else ("NO_COLOR",))):
            environ = {key: value for key, value in environ.items() if key != name}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "airside", *self._words],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env=environ,
            preexec_fn=_own_terminal,  # noqa: PLW1509 - it only makes system calls
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)
        if error is not None:
            error.add_note(f"the screen:\n{self.screen.text}")

    def wait_for(self, *texts: str) -> None:
        """Wait until the screen has all of these texts."""
        wait_until(lambda: self._read() and all(t in self.screen.text for t in texts), str(texts))

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        self._read()
        self.screen = Screen(columns, rows)
        self.screen.alternate = self.screen.hidden = True
        self._set_size(columns, rows)

    def wait_end(self) -> int:
        """Wait for its end; gives the exit code. All that it wrote is read."""
        wait_until(lambda: self._read() and self.process.poll() is not None, "its end")
        self._read()
        return self.process.wait(LIMIT_SECONDS)

    def is_as_before(self) -> bool:
        """True if modes, cursor and screen are those from before the program."""
        same = termios.tcgetattr(self._theirs) == self.modes
        return same and not self.screen.alternate and not self.screen.hidden

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, pack("HHHH", rows, columns, 0, 0))

    def _read(self) -> bool:
        """Take what was written since; always true."""
        while select.select([self._ours], [], [], 0)[0]:
            data = os.read(self._ours, 65536)
            self.raw += data
            self.screen.feed(data.decode(errors="replace"))
        return True


def _own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    die_with_parent(signal.SIGKILL)
