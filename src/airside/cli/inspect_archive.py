"""`airside inspect`: the contents of an archive. Reads and hashes all of it, writes nothing."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from airside.archive.beneath import ANYWHERE
from airside.archive.checked_reading import read_checked
from airside.archive.companion_file import companion_at
from airside.archive.formats.image_list import LIST
from airside.archive.open_parts import first_part
from airside.archive.reader import read_archive
from airside.archive.sources import Reader
from airside.archive.tar.window_budget import WindowBudget
from airside.cli.failure import error_object, exit_code_of, state_of
from airside.cli.import_archive import problem_text
from airside.cli.options import ANY_PATH, config_option, effective_settings, example, json_option
from airside.cli.output import clean, size_text, write, write_json
from airside.cli.progress import shown_progress, stopped_by_signals
from airside.cli.table import write_table
from airside.core.errors import AirsideError, StoppedError
from airside.core.settings import Settings
from airside.diagnostics.reports import inspect_report, list_report
from airside.importer.list_puller import is_list_file, load_list
from airside.store.hash_only import HashOnlyStore

NOT_DECOMPRESSED = (
    "compressed layers of this docker-archive were not decompressed: the import compares them with "
    "the config"
)
_STATES_OF_LISTS = {
    "imported": "a list: every line is an image name; nothing was pulled",
    "partial": "a list: not every line is an image name",
    "rejected": "a list: no line is an image name",
}
_STATES = {
    "imported": "complete: every image can be imported",
    "partial": "partial: not every image can be imported",
    "rejected": "rejected: no image can be imported",
    "incomplete": "incomplete: the file is truncated",
    "unreadable": "unreadable",
    "failed": "failed: the file could not be read",
    "ignored": "ignored",
}


@click.command(epilog=example("airside inspect images.tar.zst", "airside inspect --json *.tar"))
@click.argument("files", nargs=-1, required=True, type=ANY_PATH, metavar="FILE...")
@config_option
@json_option
def inspect(files: tuple[Path, ...], config: Path | None, *, as_json: bool) -> int:
    """Show the contents of archives, without importing them.

    Reads and verifies every byte; writes nothing and needs no agent. Does not count blobs of
    earlier imports. Shows the names in a list of images (.txt) and its invalid lines, without
    pulling. Exit code 3: an archive or an image in it would be rejected or is incomplete; 1: a file
    could not be read.
    """
    settings = effective_settings(config).settings
    items = []
    for number, file in enumerate(files):
        item = inspect_file(settings, file.absolute(), quiet=as_json)
        items.append(item)
        if not as_json:
            if number:
                write("")
            _show(item)
    if as_json:
        write_json({"schema": 1, "items": items})
    return exit_code_of(items)


def inspect_file(settings: Settings, path: Path, *, quiet: bool) -> dict[str, Any]:
    """Returns the contents of one archive, or the error. Raises StoppedError."""
    try:
        kind = companion_at(path)
        if kind:
            return _ignored(path, kind)
        if is_list_file(path):
            listed = load_list(path, settings.limits)
            if listed.error is not None:
                raise listed.error
            return list_report(str(path), listed)
    except AirsideError as exc:
        return _unreadable(path, exc)
    return {
        **_inspect_archive(settings, first_part(path), quiet=quiet),
        "path": str(path),
    }


def _inspect_archive(settings: Settings, path: Path, *, quiet: bool) -> dict[str, Any]:
    settings = replace(settings, verify="full", verify_diff_ids="never")
    windows = WindowBudget(settings.window_budget_bytes)
    store = HashOnlyStore(settings.limits)
    reader = Reader(store, settings, windows, lambda _digest: None, probe_bytes=None)
    with (
        shown_progress(path.name, quiet=quiet) as progress,
        stopped_by_signals() as stopping,
    ):
        try:
            read = partial(
                read_archive, reader, path, strict=False, stop=stopping, progress=progress
            )
            moving = settings.incomplete_seconds
            with read_checked(read, path, ANYWHERE, stopping, moving) as reading:
                if reading.plan.packed_layers:
                    reading.notes.append(NOT_DECOMPRESSED)
                report = inspect_report(reading)
        except StoppedError:
            raise
        except AirsideError as exc:
            return _unreadable(path, exc)
    report.pop("schema", None)
    return report


def _ignored(path: Path, kind: str) -> dict[str, Any]:
    """Returns the report of a file that is no archive, and is not meant to be one."""
    return {**_empty(path), "state": "ignored", "notes": [f"this is {kind}, no archive"]}


def _unreadable(path: Path, error: AirsideError) -> dict[str, Any]:
    return {
        **_empty(path),
        "state": state_of(error),
        "problems": [{"image": "", "blob": "", "reason": error.message}],
        "error": error_object(error),
    }


def _empty(path: Path) -> dict[str, Any]:
    """Returns a report of nothing."""
    return {
        "path": str(path),
        "state": "",
        "format": "",
        "compression": "",
        "size_bytes": None,
        "images": [],
        "documents": [],
        "problems": [],
        "notes": [],
    }


def _show(item: dict[str, Any]) -> None:
    packed = "" if item["compression"] in ("", "none") else f", {item['compression']}"
    write(clean(item["path"]))
    if item["format"]:
        write(f"  {item['format']}{packed}, {size_text(item['size_bytes'])}")
    is_list = item["format"] == LIST
    states = _STATES_OF_LISTS if is_list else _STATES
    write(f"  {states.get(item['state'], item['state'])}")
    for problem in item["problems"]:
        write(f"  problem: {clean(problem_text(problem))}")
    for note in item["notes"]:
        write(f"  note: {clean(note)}")
    if is_list:
        for image in item["images"]:
            write(f"  {clean(image['references'][0])}")
        return
    documents = {document["digest"]: document for document in item["documents"]}
    for image in item["images"]:
        write("")
        _show_image(image, documents)


def _show_image(image: dict[str, Any], documents: dict[str, Any]) -> None:
    names = image["references"] or [f"unnamed: {image['digest']}"]
    for name in names:
        write(clean(name) + ("" if image["complete"] else " (incomplete)"))
    rows = _rows(image["digest"], documents, "", set())
    write_table(("PLATFORM", "KIND", "DIGEST", "SIZE"), rows, right=("SIZE",))


def _rows(
    digest: str, documents: dict[str, Any], platform: str, seen: set[str]
) -> list[tuple[str, ...]]:
    """Returns a document and its descendants, top down, each document once."""
    if digest in seen:
        return []
    seen.add(digest)
    document = documents.get(digest)
    if document is None:
        return [(platform, "absent", digest, "")]
    platform = document["platform"] or platform
    rows: list[tuple[str, ...]] = [
        (platform, document["kind"], digest, size_text(document["size_bytes"]))
    ]
    for number, child in enumerate(document["children"]):
        if document["kind"] == "index":
            rows += _rows(child["digest"], documents, "", seen)
        else:
            kind = "layer" if number else "config"
            rows.append((platform, kind, child["digest"], size_text(child["size_bytes"])))
    return rows
