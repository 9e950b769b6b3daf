"""After any storm of changes the agent shows what the files are, and serves only true bytes."""

import os
import random
import shutil
import time

import pytest

from support.images import oci_archive, random_image, sha256

pytestmark = pytest.mark.system

STEPS = 120
NAMES = tuple(f"file-{n}.tar" for n in range(5))
ARCHIVES = 8
ALL = "docker.io/storm/all:1"


def make(directory):
    """Archives of different sizes: each has an image of its own and claims one tag of all."""
    images = {}
    for number in range(ARCHIVES):
        size = 4_000_000 if number < 2 else 20_000
        image = random_image(f"storm-{number}", layer_bytes=size)
        compression = ("none", "gzip", "zstd")[number % 3]
        names = {(f"storm/own-{number}:1", "storm/all:1"): image}
        oci_archive(directory / str(number), names, compression=compression)
        images[number] = image
    return images


def shake(rng, path, made, contents):
    """One change of one file; `contents` has the number of the archive that each file is."""
    number = rng.randrange(ARCHIVES)
    source = made / str(number)
    kind = rng.choice(["copy", "copy", "overwrite", "rename", "cut", "remove", "touch", "link"])
    if kind == "remove":
        path.unlink(missing_ok=True)
        contents.pop(path, None)
    elif kind == "touch":
        if path.exists():
            path.touch()
    elif kind == "cut":  # a copy that dies half-way
        path.unlink(missing_ok=True)
        path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
        contents[path] = None
    elif kind == "overwrite" and path.exists() and path.stat().st_nlink == 1:
        path.write_bytes(source.read_bytes())
        contents[path] = number
    else:
        part = path.with_name(path.name + ".part")
        (os.link if kind == "link" else shutil.copy)(source, part)
        if kind == "copy":
            path.unlink(missing_ok=True)
            shutil.copy(part, path)
        else:
            part.replace(path)
        part.unlink(missing_ok=True)
        contents[path] = number


@pytest.mark.parametrize("seed", [1, 2])
def test_after_a_storm_of_changes_all_is_as_the_files_say(agent, tmp_path, seed):
    rng = random.Random(seed)
    made = tmp_path / "made"
    made.mkdir()
    images = make(made)
    contents = {}
    for _ in range(STEPS):
        shake(rng, agent.watched / rng.choice(NAMES), made, contents)
        time.sleep(rng.choice([0, 0, 0.01, 0.05, 0.15]))

    own = {number: f"docker.io/storm/own-{number}:1" for number in images}
    expected = {path: () if n is None else (own[n], ALL) for path, n in contents.items()}
    present = {number for number in contents.values() if number is not None}

    def is_calm():
        archives = {p: item for p, item in agent.archives().items() if item["state"] != "removed"}
        states = {path: item["state"] for path, item in archives.items()}
        if states != {p: "imported" if names else "incomplete" for p, names in expected.items()}:
            return False
        shown = {path: archives[path]["images"] for path in expected if expected[path]}
        return shown == {path: list(names) for path, names in expected.items() if names}

    agent.wait_for(is_calm, what=f"the archives are {expected}")
    shown, archives = agent.images(), agent.archives()
    # an incomplete file keeps what its path brought before
    backed = {name for path in expected for name in archives[path]["images"]}
    for number, name in own.items():
        if name in shown:
            assert shown[name]["digest"] == str(images[number].digest)
            assert (not shown[name]["unbacked_since"]) == (name in backed)
    assert {own[number] for number in present} <= shown.keys()
    if present:
        assert shown[ALL]["digest"] in {str(images[number].digest) for number in present}
    for blob in (agent.data / "oci/blobs/sha256").iterdir():
        assert sha256(blob.read_bytes()).hex == blob.name
    assert agent.complaints() == []
