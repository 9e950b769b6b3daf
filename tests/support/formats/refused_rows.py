"""What is not read, and must be refused with a reason that says what it is."""

from pathlib import Path
from typing import Any

from support.formats.row import Make, Row, name_of
from support.formats.sources import one, saved_pair, several_platforms, tarred
from support.formats.workshop import Workshop
from support.skopeo import run, skopeo

# Other formats of images


def podman_dir(shop: Workshop, directory: Path, key: str) -> Path:
    shop.podman("load", "--input", saved_pair(directory, key))
    shop.podman("save", "--format=docker-dir", "--output", directory / "saved", name_of(key, 2))
    return directory / "saved"


def schema_1(_: Workshop, directory: Path, key: str) -> Path:
    skopeo("copy", "--format=v2s1", one(directory, key), f"dir:{directory / 'copied'}")
    return directory / "copied"


def exported(shop: Workshop, directory: Path, key: str) -> Path:
    """The files of a container."""
    docker, out = shop.docker("bookworm"), directory / "out.tar"
    docker("load", "--input", saved_pair(directory, key))
    docker("export", "--output", out, docker("create", name_of(key)).strip())
    return out


def chart(_: Workshop, directory: Path, key: str) -> Path:
    """A Helm chart as `helm package` writes it, but that its metadata lack the version."""
    (directory / key).mkdir()
    (directory / key / "Chart.yaml").write_text(f"name: {key}\n")
    run("tar", "-C", directory, "-czf", directory / "chart.tgz", key)
    return directory / "chart.tgz"


def no_platforms(_: Workshop, directory: Path, key: str) -> Path:
    out = directory / "out.tar"
    flags = ["--multi-arch=index-only", "--preserve-digests"]
    skopeo("copy", *flags, several_platforms(directory, key), f"oci-archive:{out}:{name_of(key)}")
    return out


# Other ways of packing


def by_shell(command: str) -> Make:
    """Pack the layout directory `source`, in whose parent the command runs, into `out`."""

    def make(_: Workshop, directory: Path, key: str) -> Path:
        one(directory, key)
        for path in (directory / "source/blobs/sha256").iterdir():
            run("cp", "--sparse=always", path, directory / "copy")
            (directory / "copy").rename(path)
        run("sh", "-ec", f"cd {directory}; {command}")
        return directory / "out"

    return make


def _row(
    key: str, made_by: str, holds: str, make: Make, refused: str, *needs: str, **more: Any
) -> Row:
    return Row(key, "refused", made_by, holds, make, needs, refused=refused, **more)


LAYOUT = "an OCI layout"
INTO = "cd source; find . |"
ROWS = [
    _row(
        "podman-dir",
        "`podman save --format=docker-dir`, `tar`",
        "Docker's `dir` format",
        tarred(podman_dir),
        "`dir:` transport",
        "podman",
        root=True,
    ),
    _row(
        "schema-1",
        "`skopeo copy --format=v2s1 … dir:`, `tar`",
        "schema 1",
        tarred(schema_1),
        "schema 1",
    ),
    _row(
        "docker-export",
        "`docker export`",
        "the files of a container",
        exported,
        "use `docker save`",
        "containerd",
        "runc",
        root=True,
    ),
    _row(
        "chart",
        "`helm package` (with GNU tar)",
        "a Helm chart without a version",
        chart,
        "has no version",
        suffix=".tgz",
    ),
    _row(
        "index-only",
        "`skopeo copy --multi-arch=index-only`",
        "an index without its platforms",
        no_platforms,
        "none",
    ),
    _row("sparse-gnu", "`tar --sparse`", LAYOUT, by_shell("tar -S -C source -cf out ."), "sparse"),
    _row(
        "sparse-pax",
        "`tar --sparse --format=pax`",
        LAYOUT,
        by_shell("tar -S --format=pax -C source -cf out ."),
        "sparse",
    ),
    _row(
        "cpio",
        "`cpio`",
        LAYOUT,
        by_shell(f"{INTO} cpio -o -H newc --quiet >../out"),
        "cpio",
        "cpio",
    ),
    _row(
        "zip",
        "`bsdtar --format=zip`",
        LAYOUT,
        by_shell("bsdtar --format=zip -C source -cf out ."),
        "zip",
        "bsdtar",
    ),
    _row(
        "7z",
        "`7z a`",
        LAYOUT,
        by_shell("7z a -bd -t7z out.7z ./source/* && mv out.7z out"),
        "7z",
        "7z",
    ),
    _row(
        "lz4-legacy",
        "`lz4 -l`",
        LAYOUT,
        by_shell("tar -C source -c . | lz4 -q -l >out"),
        "legacy",
        "lz4",
    ),
    _row(
        "lzma",
        "`xz --format=lzma`",
        LAYOUT,
        by_shell("tar -C source -c . | xz --format=lzma >out"),
        "lzma",
        "xz",
    ),
    _row(
        "label",
        "`tar --label`",
        LAYOUT,
        by_shell("tar --label=images -C source -cf out ."),
        "--label",
    ),
    _row(
        "incremental",
        "`tar --listed-incremental`",
        LAYOUT,
        by_shell("tar -g snapshot -C source -cf out ."),
        "incremental",
    ),
]
