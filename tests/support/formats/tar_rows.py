"""One layout, packed by each program that writes tars; and names that need long ones."""

import functools
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from support.formats.row import Make, Row
from support.formats.sources import longest_names, one, saved_pair
from support.formats.workshop import Workshop
from support.skopeo import run

ONE, LONG = "one image", "names of 141 bytes (sha512)"
DEEP = "a docker-archive, names and links of 280 bytes"


def source(directory: Path, key: str) -> Path:
    one(directory, key, compression="gzip")
    return directory / "source"


def by_program(*words: str, of: Callable[[Path, str], Path] = source) -> Make:
    """`{out}` and `{source}` stand for the archive and the directory to pack."""

    def make(_: Workshop, directory: Path, key: str) -> Path:
        made = of(directory, key)
        out = directory / "out.tar"
        run(*(word.format(out=out, source=made) for word in words))
        return out

    return make


def by_shell(command: str) -> Make:
    """In the layout directory; `$OUT` is the archive."""
    return by_program("sh", "-c", f"cd {{source}} && OUT={{out}} && {command}")


def by_tarfile(form: int, *, of: Callable[[Path, str], Path] = source) -> Make:
    def make(_: Workshop, directory: Path, key: str) -> Path:
        made = of(directory, key)
        with tarfile.open(directory / "out.tar", "w", format=form) as tar:
            tar.add(made, arcname="")
        return directory / "out.tar"

    return make


def long_paths(directory: Path, key: str) -> Path:
    """A docker-archive, unpacked: names and the targets of links have more than 200 bytes."""
    made = directory / "unpacked"
    below = "/".join([key.center(70, "x")] * 3)
    (made / below).mkdir(parents=True)
    run("tar", "-C", made / below, "-xf", saved_pair(directory, key))
    entries = json.loads((made / below / "manifest.json").read_text())
    for number, entry in enumerate(entries):
        layers = [f"{below}/{name}" for name in entry["Layers"]]
        link = f"{number}/{key.center(120, 'y')}.tar"
        (made / link).parent.mkdir()
        (made / link).symlink_to(f"../{layers[0]}")
        entry |= {"Config": f"{below}/{entry['Config']}", "Layers": [link, *layers[1:]]}
    (made / below / "manifest.json").unlink()
    (made / below / "repositories").unlink()
    (made / "manifest.json").write_text(json.dumps(entries))
    return made


def _gnu(form: str) -> Sequence[str]:
    return "tar", f"--format={form}", "-C", "{source}", "-cf", "{out}", "."


def _bsd(form: str) -> Sequence[str]:
    return "bsdtar", f"--format={form}", "-C", "{source}", "-cf", "{out}", "."


def _rows() -> list[Row]:
    row = functools.partial(Row, table="tar", holds=ONE, containerd=False)
    found = [
        row(key=f"tar-{form}", made_by=f"GNU tar `--format={form}`", make=by_program(*_gnu(form)))
        for form in ("gnu", "ustar", "pax", "v7", "oldgnu")
    ]
    found += [
        row(
            key=f"bsdtar-{form}",
            made_by=f"bsdtar `--format={form}`",
            make=by_program(*_bsd(form)),
            needs=("bsdtar",),
        )
        for form in ("pax", "paxr", "ustar", "gnutar", "v7")
    ]
    found += [
        row(
            key=f"tarfile-{name}",
            made_by=f"Python's tarfile, {name}",
            make=by_tarfile(form),
        )
        for name, form in (("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT))
    ]
    plain = by_program("sh", "-c", "tar -C {source} -cf {out} blobs index.json oci-layout")
    return [
        *found,
        row(key="tar-undotted", made_by="GNU tar, members named one by one", make=plain),
        row(
            key="7zip",
            made_by="7-Zip `-ttar`",
            make=by_shell("7z a -bd -ttar $OUT ."),
            needs=("7z",),
        ),
        row(
            key="7zip-pax",
            made_by="7-Zip `-ttar -mm=pax`",
            make=by_shell("7z a -bd -ttar -mm=pax $OUT ."),
            needs=("7z",),
        ),
        row(
            key="busybox",
            made_by="busybox tar",
            make=by_program("busybox", "tar", "-C", "{source}", "-cf", "{out}", "."),
            needs=("busybox",),
        ),
        row(
            key="cpio-ustar",
            made_by="`cpio -H ustar`",
            make=by_shell("find . | cpio -o -H ustar --quiet >$OUT"),
            needs=("cpio",),
        ),
        *_long_rows(),
    ]


def _long_rows() -> list[Row]:
    """What only fits a header with an extension of pax or GNU."""
    in_source = "cd {source} && 7z a -bd -snl -ttar {out} ."
    packers: dict[str, tuple[str, Callable[..., Make], tuple[str, ...]]] = {
        "gnu": ("GNU tar `--format=gnu`", functools.partial(by_program, *_gnu("gnu")), ()),
        "pax": ("GNU tar `--format=pax`", functools.partial(by_program, *_gnu("pax")), ()),
        "bsdtar": (
            "bsdtar `--format=pax`",
            functools.partial(by_program, *_bsd("pax")),
            ("bsdtar",),
        ),
        "bsdtar-gnu": (
            "bsdtar `--format=gnutar`",
            functools.partial(by_program, *_bsd("gnutar")),
            ("bsdtar",),
        ),
        "7zip": ("7-Zip `-ttar`", functools.partial(by_program, "sh", "-c", in_source), ("7z",)),
        "tarfile": (
            "Python's tarfile, gnu",
            functools.partial(by_tarfile, tarfile.GNU_FORMAT),
            (),
        ),
    }
    found = []
    for kind, holds, of, pulls in (
        ("long", LONG, longest_names, False),  # skopeo knows no sha512
        ("deep", DEEP, long_paths, True),
    ):
        found += [
            Row(
                key=f"{kind}-{short}",
                table="tar",
                made_by=made_by,
                holds=holds,
                make=pack(of=of),
                needs=needs,
                containerd=False,
                skopeo=pulls,
            )
            for short, (made_by, pack, needs) in packers.items()
        ]
    return found


ROWS = _rows()
