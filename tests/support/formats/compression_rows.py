"""Each program that compresses, on a docker-archive and on an OCI layout."""

import subprocess
from pathlib import Path

from support.formats.row import Make, Pack, Row, name_of
from support.formats.sources import one, packed
from support.formats.workshop import Workshop
from support.images import docker_archive, random_image

SMALL, MEDIUM, LARGE = 20_000, 800_000, 2_500_000
"""Bytes of a layer; an image has two. Parallel programs cut only what is larger."""


def saved(layer_bytes: int) -> Make:
    def make(_: Workshop, directory: Path, key: str) -> Path:
        image = random_image(key, media="docker", layer_bytes=layer_bytes)
        docker_archive(directory / "out.tar", {name_of(key): image})
        return directory / "out.tar"

    return make


def layout(layer_bytes: int) -> Make:
    def make(_: Workshop, directory: Path, key: str) -> Path:
        one(directory, key, layer_bytes=layer_bytes)
        return packed(directory / "source")

    return make


def through(*words: str, proof: str = "") -> Pack:
    """Pack by a command that reads its standard input and writes its standard output.

    Some programs write one frame whatever they are told when there is little to do: `proof` is a
    command that fails (with the packed file as `$1`) unless the file is of the kind that is meant.
    """

    def pack(source: Path, target: Path) -> None:
        with source.open("rb") as reading, target.open("wb") as writing:
            subprocess.run(words, stdin=reading, stdout=writing, check=True, timeout=60)
        if proof:
            subprocess.run(["sh", "-c", proof, "sh", target], check=True, timeout=60)

    return pack


def repack(*words: str) -> Pack:
    """Unpack, and pack again with a tar that compresses by itself."""
    again = " ".join(words)
    return through("sh", "-ec", f"d=$(mktemp -d); tar -C $d -xf -; {again} -C $d -cf - .; rm -r $d")


def halves(program: str) -> Pack:
    """Two files one after the other, as `cat` joins them."""
    return through("sh", "-ec", f"dd bs=30000 count=1 status=none | {program}; {program}")


def padded(program: str) -> Pack:
    """Zeros behind it, as tapes and block devices leave them."""
    return through("sh", "-ec", f"{program}; head -c 4096 /dev/zero")


def with_skippable(program: str) -> Pack:
    """A frame of other bytes before and behind, which readers skip."""
    frame = r"printf '\120\052\115\030\004\000\000\000skip'"
    return through("sh", "-ec", f"{frame}; {program}; {frame}")


def by_7zip(kind: str) -> Pack:
    """From a file, under whose name 7-Zip keeps it."""
    command = (
        f"d=$(mktemp -d); cat >$d/out.tar; 7z a -bd -t{kind} $d/packed $d/out.tar >/dev/null; "
        f"cat $d/packed*; rm -r $d"
    )
    return through("sh", "-ec", command)


FRAMES = "zstd -lv $1 2>&1 | grep -q 'Zstandard Frames: [2-9]'"
WINDOW = "zstd -lv $1 2>&1 | grep -q 'Window Size: 128 MiB'"
STREAMS = "test $(grep -ao 'BZh[1-9]1AY&SY' $1 | wc -l) -gt 2"
BLOCKS = "test $(xz --robot -l $1 | awk '/^file/ {print $3}') -gt 1"
DICTIONARY = "xz -lvv $1 | grep -q dict=64MiB"
SUFFIXES = {
    "none": ".tar",
    "gzip": ".tar.gz",
    "zstd": ".tar.zst",
    "lz4": ".tar.lz4",
    "bzip2": ".tar.bz2",
    "xz": ".tar.xz",
}
Program = tuple[str, str, str, str, int, Pack]
PROGRAMS: tuple[Program, ...] = (
    ("gzip", "gzip", "`gzip`", "gzip", SMALL, through("gzip", "-c")),
    ("gzip-two", "gzip", "`gzip`, two members joined", "gzip", SMALL, halves("gzip -c")),
    ("pigz", "gzip", "`pigz`", "pigz", LARGE, through("pigz", "-c")),
    ("tar-gzip", "gzip", "`tar --gzip`", "tar", SMALL, repack("tar", "--gzip")),
    ("bsdtar-gzip", "gzip", "`bsdtar --gzip`", "bsdtar", SMALL, repack("bsdtar", "--gzip")),
    ("zstd", "zstd", "`zstd`", "zstd", SMALL, through("zstd", "-q", "-c")),
    ("zstd-two", "zstd", "`zstd`, two frames joined", "zstd", SMALL, halves("zstd -q -c")),
    (
        "zstd-long",
        "zstd",
        "`zstd -19 --long=27`",
        "zstd",
        SMALL,
        through("zstd", "-q", "-19", "--long=27", "-c", proof=WINDOW),
    ),
    ("zstd-threads", "zstd", "`zstd -T0`", "zstd", LARGE, through("zstd", "-q", "-T0", "-c")),
    (
        "pzstd",
        "zstd",
        "`pzstd`, several frames",
        "pzstd",
        LARGE,
        through("pzstd", "-q", "-1", "-p", "2", "-c", proof=FRAMES),
    ),
    ("tar-zstd", "zstd", "`tar --zstd`", "zstd", SMALL, repack("tar", "--zstd")),
    ("bsdtar-zstd", "zstd", "`bsdtar --zstd`", "bsdtar", SMALL, repack("bsdtar", "--zstd")),
    ("lz4", "lz4", "`lz4`", "lz4", SMALL, through("lz4", "-q", "-c")),
    ("lz4-two", "lz4", "`lz4`, two frames joined", "lz4", SMALL, halves("lz4 -q -c")),
    ("lz4-linked", "lz4", "`lz4 -9 -BD`", "lz4", LARGE, through("lz4", "-q", "-9", "-BD", "-c")),
    ("bsdtar-lz4", "lz4", "`bsdtar --lz4`", "bsdtar", SMALL, repack("bsdtar", "--lz4")),
    ("bzip2", "bzip2", "`bzip2`", "bzip2", SMALL, through("bzip2", "-c")),
    ("lbzip2", "bzip2", "`lbzip2`", "lbzip2", MEDIUM, through("lbzip2", "-n2", "-c")),
    (
        "pbzip2",
        "bzip2",
        "`pbzip2`, several streams",
        "pbzip2",
        MEDIUM,
        through("pbzip2", "-b3", "-p2", "-c", proof=STREAMS),
    ),
    ("bsdtar-bzip2", "bzip2", "`bsdtar --bzip2`", "bsdtar", SMALL, repack("bsdtar", "--bzip2")),
    ("xz", "xz", "`xz`", "xz", SMALL, through("xz", "-c")),
    ("xz-two", "xz", "`xz`, two streams joined", "xz", SMALL, halves("xz -c")),
    (
        "xz-threads",
        "xz",
        "`xz -T2`, several blocks",
        "xz",
        MEDIUM,
        through("xz", "-1", "-T2", "--block-size=512KiB", "-c", proof=BLOCKS),
    ),
    (
        "xz-large",
        "xz",
        "`xz -9e`, a dictionary of 64 MiB",
        "xz",
        SMALL,
        through("xz", "-9e", "-c", proof=DICTIONARY),
    ),
    ("pixz", "xz", "`pixz`", "pixz", LARGE, through("pixz", "-1", "-p", "2", proof=BLOCKS)),
    ("bsdtar-xz", "xz", "`bsdtar --xz`", "bsdtar", SMALL, repack("bsdtar", "--xz")),
    ("gzip-7z", "gzip", "`7z -tgzip`", "7z", SMALL, by_7zip("gzip")),
    ("bzip2-7z", "bzip2", "`7z -tbzip2`", "7z", SMALL, by_7zip("bzip2")),
    ("xz-7z", "xz", "`7z -txz`", "7z", SMALL, by_7zip("xz")),
    ("gzip-zeros", "gzip", "`gzip`, zeros behind", "gzip", SMALL, padded("gzip -c")),
    ("zstd-zeros", "zstd", "`zstd`, zeros behind", "zstd", SMALL, padded("zstd -q -c")),
    ("lz4-zeros", "lz4", "`lz4`, zeros behind", "lz4", SMALL, padded("lz4 -q -c")),
    ("bzip2-zeros", "bzip2", "`bzip2`, zeros behind", "bzip2", SMALL, padded("bzip2 -c")),
    ("xz-zeros", "xz", "`xz`, zeros behind", "xz", SMALL, padded("xz -c")),
    (
        "zstd-skippable",
        "zstd",
        "`zstd`, skippable frames around",
        "zstd",
        SMALL,
        with_skippable("zstd -q -c"),
    ),
    (
        "lz4-skippable",
        "lz4",
        "`lz4`, skippable frames around",
        "lz4",
        SMALL,
        with_skippable("lz4 -q -c"),
    ),
    ("xz-nocheck", "xz", "`xz --check=none`", "xz", SMALL, through("xz", "--check=none", "-c")),
)


NOTED = {"pixz": "other bytes follow the end of the tar"}
"""pixz appends an index of the tar's members."""


def _rows() -> list[Row]:
    found = [
        Row("plain-docker", "compression", "nothing", "docker-archive", saved(SMALL)),
        Row("plain-oci", "compression", "nothing", "OCI layout", layout(SMALL)),
    ]
    for key, compression, made_by, needs, size, pack in PROGRAMS:
        for short, holds, make in (
            ("docker", "docker-archive", saved(size)),
            ("oci", "OCI layout", layout(size)),
        ):
            found.append(
                Row(
                    f"{key}-{short}",
                    "compression",
                    made_by,
                    holds,
                    make,
                    (needs,),
                    compression=compression,
                    pack=pack,
                    suffix=SUFFIXES[compression],
                    noted=NOTED.get(key, ""),
                    containerd=False,  # of the tar inside, which is as in the first line
                    skopeo=False,
                )
            )
    return found


ROWS = _rows()
