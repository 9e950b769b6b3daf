"""Records docs/terminal.svg: what the first commands of a newcomer print. Run by hand.

    .venv/bin/python scripts/record-terminal.py

A real agent runs on a temporary directory, which stands for the host's root
(`AIRSIDE_HOST_ROOT`). The commands run on a terminal of their own. The picture has what they
printed, with the temporary directory left out of the paths and long lines cut. Only the loopback
address of the default registry is used; the port must be free.
"""

import fcntl
import io
import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from struct import pack
from termios import TIOCSWINSZ

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).parents[1] / "docs/terminal.svg"
COLUMNS, ROWS = 112, 40
IMAGES, DATA, HOME = "var/lib/airside/images", "var/lib/airside/data", "root"
READY_SECONDS = 60.0
COMMANDS = (  # what is typed, and what is run for it
    ("airside sample hello.tar.zst", "airside sample hello.tar.zst"),
    ("mv hello.tar.zst /var/lib/airside/images/", f"mv hello.tar.zst ../{IMAGES}/"),
    ("airside images", "airside images"),
    ("airside explain airside/hello:1 | head -9", "airside explain airside/hello:1 | head -9"),
    ("airside explain hello:2", "airside explain hello:2"),
)


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        shown = list(record(Path(root)))
    PICTURE.write_text(draw(shown), encoding="utf-8")
    print(f"{PICTURE}: {len(shown)} commands")


def record(root: Path) -> Iterator[tuple[str, str]]:
    """Runs the commands with an agent; gives what was typed and what was printed."""
    for directory in (IMAGES, DATA, HOME):
        (root / directory).mkdir(parents=True)
    environment = os.environ | {
        "AIRSIDE_HOST_ROOT": str(root),
        "AIRSIDE_DATA": str(root / DATA),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TERM": "xterm-256color",
    }
    with agent(root, environment):
        for typed, command in COMMANDS:
            printed = run(command, root / HOME, environment)
            yield typed, printed.replace(f"{root}/", "/").rstrip()
            if typed.startswith("mv"):
                wait_for("imported", environment)


@contextmanager
def agent(root: Path, environment: Mapping[str, str]) -> Iterator[None]:
    options = ["--images", str(root / IMAGES), "--runtime", "none"]
    with subprocess.Popen(
        ["airside", "run", *options], env=environment, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_for('"running": true', environment)
            yield
        finally:
            process.terminate()


def wait_for(text: str, environment: Mapping[str, str]) -> None:
    """Waits until `airside status --json` says this."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        found = subprocess.run(
            ["airside", "status", "--json"], env=environment, capture_output=True, check=False
        )
        if text in found.stdout.decode():
            return
        time.sleep(0.1)
    raise SystemExit(f"no {text} within {READY_SECONDS:.0f} s: is the registry's port in use?")


def run(command: str, where: Path, environment: Mapping[str, str]) -> str:
    """What a command prints on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, TIOCSWINSZ, pack("HHHH", ROWS, COLUMNS, 0, 0))
    with subprocess.Popen(
        ["sh", "-c", command], cwd=where, env=environment, stdout=theirs, stderr=theirs
    ):
        os.close(theirs)
        printed = b""
        while chunk := read(ours):
            printed += chunk
    os.close(ours)
    return printed.decode().replace("\r\n", "\n")


def read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other side was closed
        return b""


def draw(shown: list[tuple[str, str]]) -> str:
    """The picture: text in the reader's own monospaced font, nothing fetched from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for number, (typed, printed) in enumerate(shown):
        if number:
            console.print()
        console.print(Text.assemble(("$ ", "green"), (typed, "bold")))
        if printed:
            console.print(Text.from_ansi(printed), no_wrap=True, overflow="ellipsis")
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    form = form.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")
    form = form.replace("<svg ", '<svg xml:space="preserve" ', 1)
    drawn = console.export_svg(title="airside", code_format=form, unique_id="terminal")
    return "\n".join(line.rstrip() for line in drawn.splitlines()) + "\n"


if __name__ == "__main__":
    main()
