"""docs/formats.md: its text, and reading back what it says."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.formats.names_section import NAMES
from support.formats.row import Row

PAGE = Path(__file__).parents[3] / "docs/formats.md"

TOP = """# Formats

The archives that Airside reads, by the tool that made them. A test writes this page: it makes each
archive with the tool itself, drops it into the watched directory of a running agent, pulls every
image from the registry and compares it byte for byte with the archive.

- **imported**: every manifest, config and layer is the same as in the archive. The bytes of an OCI
  layout's documents do not change. The manifest of a docker-archive is the one that containerd's
  importer builds, so that digests are the same everywhere.
- **reachable by digest**: the archive has no full name, or only a tag. `airside archives` shows the
  name to pull; the setting `repository` of a watched directory completes tags to names.
- **refused**: the file stays where it is, `airside archives` shows the reason, nothing is served.
  Airside reads docker-archives and OCI layouts: make one with `docker save`, `podman save`,
  `skopeo copy … oci-archive:FILE:NAME`, or pack a layout directory with `tar -C DIR -cf FILE .`.

The first bytes of a file decide its format, never its name. *builder* in a row means that the tool
itself is not among the tests' tools; a test's builder makes the archive as the tool's source code
does.
"""

TABLES = {
    "docker": (
        "docker-archives, and what Docker saves",
        "Docker 25 and later write an OCI layout, with a `manifest.json` for older readers.",
    ),
    "oci": (
        "OCI layouts",
        (
            "Packed as a tar, by the tool or with GNU tar. Without `--local`, the export of "
            "containerd 2.1 may\nend early though it exits with 0: such a file is *incomplete* "
            "here, and nothing of it is served."
        ),
    ),
    "directory": ("OCI layout directories", "Dropped as they are, not packed."),
    "features": ("Other contents of layouts and docker-archives", ""),
    "bundle": (
        "Bundles",
        (
            "Layouts in a directory of a tar, beside other things. An archive in parts is read as "
            "one file, without a\ncopy, once all parts are in one directory: `split` "
            "(`x.tar.aa`, `x.tar-ab`), hauler `--chunk-size` (`x.tar.zst.001`),\nzarf "
            "(`x.tar.zst.part001`, with what `part000` says), `x.part1.tar`, "
            "`x.tar.part-01-of-03`, `x.z01`. It goes by the\npath of its first part, is "
            "*incomplete* until then, and the reason names the part that is missing. Hauler 2.0 "
            "names parts as whole archives\n(`x_0.tar.zst`): the reason says how to rename them."
        ),
    ),
    "tar": ("Programs that pack the tar", "The same layout, packed by each program."),
    "compression": ("Compression", ""),
    "refused": ("Refused by name", ""),
}


HEADS = {"compression": ["Packed with", "Compression", "docker-archive", "OCI layout"]}
HEAD = ["Made by", "Holds", "Airside"]


@dataclass(frozen=True)
class Line:
    """A line of a table: what it is about, and the rows whose results are its last cells."""

    cells: tuple[str, ...]
    keys: tuple[str, ...]


def render(results: Mapping[str, str], rows: Sequence[Row]) -> str:
    """The whole page; `results` by the rows' keys."""
    parts = [TOP, NAMES]
    for table, (title, text) in TABLES.items():
        head = HEADS.get(table, HEAD)
        shown = [_join(head), _join(["---"] * len(head))]
        shown += [
            _join([*line.cells, *(results[key] for key in line.keys)])
            for line in _lines(table, rows)
        ]
        if len(shown) == 2:
            continue
        parts += [f"## {title}\n", *([f"{text}\n"] if text else []), "\n".join(shown) + "\n"]
    return "\n".join(parts)


def _lines(table: str, rows: Sequence[Row]) -> Iterator[Line]:
    """One for each row; of a program that compresses, one for both archives."""
    mine = [row for row in rows if row.table == table]
    if table != "compression":
        yield from (Line((row.made_by, row.holds), (row.key,)) for row in mine)
        return
    for cells in dict.fromkeys((row.made_by, row.compression) for row in mine):
        keys = [row.key for row in mine if (row.made_by, row.compression) == cells]
        yield Line(cells, tuple(keys))


def _join(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def committed(rows: Sequence[Row]) -> dict[str, str]:
    """What the page says now of each row; those it does not know are left out."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    found: dict[str, str] = {}
    for table, (title, _) in TABLES.items():
        section = text.partition(f"## {title}\n")[2].partition("\n## ")[0].splitlines()
        for line in _lines(table, rows):
            start = _join(line.cells).removesuffix("|")
            said = next((each for each in section if each.startswith(start)), "")
            results = said.removeprefix(start).strip("| ").split(" | ") if said else []
            found |= dict(zip(line.keys, results, strict=False))
    return found
