"""One layout, packed by each program that writes tars; and names that need long ones."""

import functools
import tarfile
from collections.abc import Sequence
from pathlib import Path

from support.formats.row import Make, Row
from support.formats.sources import longest_names, one
from support.formats.workshop import Workshop
from support.skopeo import run

ONE, LONG = "one image", "names of 141 bytes (sha512)"


def source(directory: Path, key: str) -> Path:
    one(directory, key, compression="gzip")
    return directory / "source"


def by_program(*words: str, long: bool = False) -> Make:
    """`{out}` and `{source}` stand for the archive and the layout directory."""

    def make(_: Workshop, directory: Path, key: str) -> Path:
        made = longest_names(directory, key) if long else source(directory, key)
        out = directory / "out.tar"
        run(*(word.format(out=out, source=made) for word in words))
        return out

    return make


def by_shell(command: str) -> Make:
    """In the layout directory; `$OUT` is the archive."""
    return by_program("sh", "-c", f"cd {{source}} && OUT={{out}} && {command}")


def by_tarfile(form: int, *, long: bool = False) -> Make:
    def make(_: Workshop, directory: Path, key: str) -> Path:
        made = longest_names(directory, key) if long else source(directory, key)
        with tarfile.open(directory / "out.tar", "w", format=form) as tar:
            tar.add(made, arcname="")
        return directory / "out.tar"

    return make


def _gnu(form: str) -> Sequence[str]:
    return "tar", f"--format={form}", "-C", "{source}", "-cf", "{out}", "."


def _bsd(form: str) -> Sequence[str]:
    return "bsdtar", f"--format={form}", "-C", "{source}", "-cf", "{out}", "."


def _rows() -> list[Row]:
    row = functools.partial(Row, table="tar", holds=ONE)
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
    row = functools.partial(Row, table="tar", holds=LONG, containerd=False, skopeo=False)
    return [
        *(
            row(
                key=f"long-{form}",
                made_by=f"GNU tar `--format={form}`",
                make=by_program(*_gnu(form), long=True),
            )
            for form in ("gnu", "pax")
        ),
        row(
            key="long-bsdtar",
            made_by="bsdtar `--format=pax`",
            make=by_program(*_bsd("pax"), long=True),
            needs=("bsdtar",),
        ),
        row(
            key="long-7zip",
            made_by="7-Zip `-ttar`",
            make=by_program("sh", "-c", "cd {source} && 7z a -bd -ttar {out} .", long=True),
            needs=("7z",),
        ),
        row(
            key="long-tarfile",
            made_by="Python's tarfile, gnu",
            make=by_tarfile(tarfile.GNU_FORMAT, long=True),
        ),
    ]


ROWS = _rows()
