"""A data directory as an earlier version left it: what was done to it, and what must be there.

`python -m support.earlier OUT.sql COMMAND...` runs that version on a temporary directory and writes
its catalog as SQL text, with `@IMAGES@` for the watched directory. The blobs are not recorded: they
come from the same generator (`lay_out`).

    PYTHONPATH=src:tests python -m support.earlier OUT.sql airside

What is done: `app` comes as 1 and then, replaced, as 2; its tag is rolled back; `multi` comes from
two archives, one for each platform; the archive of `gone` is removed.
"""

import http.client
import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from support.host import without_settings
from support.images import TestImage, oci_archive, random_image
from support.waiting import wait_until

PLACE = "@IMAGES@"
HOST = "registry.example"
ONE, TWO = (random_image(f"earlier {n}", layers=2, layer_bytes=2000) for n in (1, 2))
GONE = random_image("earlier gone", layers=1, layer_bytes=2000)
AMD, ARM = (
    random_image(f"earlier {arch}", layers=1, layer_bytes=2000, platform=f"linux/{arch}")
    for arch in ("amd64", "arm64")
)
IMAGES = (ONE, TWO, GONE, AMD, ARM)
APP, MULTI, GONE_NAME = f"{HOST}/app:stable", f"{HOST}/multi:1", f"{HOST}/gone:1"


def write_archive(directory: Path, name: str, reference: str, image: TestImage) -> Path:
    oci_archive(directory / f".{name}", {reference: image})
    return (directory / f".{name}").rename(directory / name)


def lay_out(data: Path, dump: str, images: Path) -> None:
    """Make the data directory that the dump is of."""
    blobs = data / "oci/blobs/sha256"
    blobs.mkdir(parents=True)
    (data / "oci/oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (data / "format").write_text("1\n")
    for image in IMAGES:
        for blob in image.blobs:
            (blobs / blob.digest.hex).write_bytes(blob.raw)
    with closing(sqlite3.connect(data / "catalog.db")) as db:
        db.executescript(dump.replace(PLACE, str(images)))
        for digest, document in db.execute("SELECT digest, raw FROM document").fetchall():
            (blobs / digest.partition(":")[2]).write_bytes(document)  # also a merged index
    for path in (data, *data.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)


def record(command: list[str], out: Path) -> None:
    with tempfile.TemporaryDirectory() as root:
        images, data = Path(root, "images"), Path(root, "data")
        images.mkdir()
        with _agent(command, images, data):
            _use(command, images, data)
        with closing(sqlite3.connect(data / "catalog.db")) as db:
            db.execute("UPDATE meta SET value = '' WHERE key = 'boot_id'")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            lines = [*db.iterdump(), f"PRAGMA user_version={version};", ""]
        out.write_text("\n".join(lines).replace(str(images), PLACE))
        sys.stdout.write(f"{out}: catalog version {version}, {len(lines)} lines\n")


def _use(command: list[str], images: Path, data: Path) -> None:
    def names() -> dict[str, str]:
        items = _ask(data, "/v1/images")["items"]
        return {item["reference"]: item["digest"] for item in items}

    write_archive(images, "app.tar", APP, ONE)
    write_archive(images, "gone.tar", GONE_NAME, GONE)
    write_archive(images, "multi-amd64.tar", MULTI, AMD)
    wait_until(lambda: set(names()) == {APP, GONE_NAME, MULTI})
    before = names()[MULTI]
    write_archive(images, "app.tar", APP, TWO)
    wait_until(lambda: names()[APP] == str(TWO.digest))
    help_text = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    if " tag " in help_text.stdout:
        write_archive(images, "multi-arm64.tar", MULTI, ARM)
        wait_until(lambda: names()[MULTI] != before)
        _run(command, "tag", "rollback", APP, "--data", data)
    (images / "gone.tar").unlink()
    wait_until(lambda: _ask(data, "/v1/status")["unbacked"] == 1)


def _run(command: list[str], *words: object) -> None:
    subprocess.run([*command, *map(str, words)], check=True, env=_environ())


def _environ() -> dict[str, str]:
    return without_settings() | {"AIRSIDE_REMOVAL_SECONDS": "0.5"}


@contextmanager
def _agent(command: list[str], images: Path, data: Path) -> Iterator[None]:
    help_text = subprocess.run([*command, "run", "-h"], capture_output=True, text=True, check=False)
    flags = ["--runtime", "none"] if "--runtime" in help_text.stdout else []
    words = ["run", "--images", str(images), "--data", str(data), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, *words, *flags], env=_environ(), stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until((data / "airside.sock").exists)
            yield
        finally:
            process.terminate()


def _ask(data: Path, path: str) -> dict[str, Any]:
    with closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.connect(os.fspath(data / "airside.sock"))
        client = http.client.HTTPConnection("airside")
        client.sock = connection
        client.request("GET", path)
        value: dict[str, Any] = json.loads(client.getresponse().read())
        return value


if __name__ == "__main__":
    record(sys.argv[2:], Path(sys.argv[1]))
