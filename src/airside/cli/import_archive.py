"""`airside import`: runs in the agent, or on the locked data directory if none runs."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from airside.agent.node import Node
from airside.agent.runtime_connections import check_names, connected_runtimes
from airside.archive.formats.image_list import is_list_name
from airside.cli.client import ControlClient, NoAgentError, NotPermittedError
from airside.cli.exclusive import open_alone
from airside.cli.failure import EXIT_FAILED, error_object, exit_code_of, state_of
from airside.cli.options import (
    ANY_PATH,
    config_option,
    data_option,
    effective_settings,
    example,
    json_option,
)
from airside.cli.output import clean, count_text, duration_text, time_text, write, write_json
from airside.cli.progress import shown_progress, stopped_by_signals
from airside.core.errors import AirsideError, StoppedError
from airside.core.settings import Settings
from airside.diagnostics.image_states import FAILED
from airside.diagnostics.reports import outcome_report


@click.command("import", epilog=example("airside import /media/usb/*.tar.zst"))
@click.argument("files", nargs=-1, required=True, type=ANY_PATH, metavar="FILE...")
@click.option(
    "--runtime",
    multiple=True,
    metavar="auto|none|SOCKET",
    help="The containerd to publish to if no agent runs [default: the setting runtime].",
)
@data_option
@config_option
@json_option
def import_files(
    files: tuple[Path, ...],
    runtime: tuple[str, ...],
    data: Path | None,
    config: Path | None,
    *,
    as_json: bool,
) -> int:
    """Import archives now, and wait until their images can be pulled and run.

    The files may be anywhere, and may be deleted afterwards. A running agent does the work, else
    this command. The container runtime pulls the images of a list (.txt). Exit code 3: an archive
    or an image in it was rejected or is incomplete; 1: an import or a publication failed.
    """
    settings = effective_settings(config, data=data, runtime=runtime).settings
    items, published = [], True
    for item, is_published in _import_all(settings, files, quiet=as_json):
        items.append(item)
        published &= is_published
        if not as_json:
            write(outcome_text(item))
    if as_json:
        write_json({"schema": 1, "items": items})
    return exit_code_of(items) if published else EXIT_FAILED


def _import_all(
    settings: Settings, files: tuple[Path, ...], *, quiet: bool
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yields the result of each import, and True if no publication failed."""
    with ExitStack() as stack:
        local: _LocalImport | None = None
        for file in files:
            path = _absolute(file)
            if local is None:
                try:
                    item = _ask_agent(settings.data, path, quiet=quiet)
                    yield item, not _refused(item)
                    continue
                except NoAgentError:
                    local = _LocalImport(settings, stack)
            item = local.run(path, quiet=quiet)
            yield item, not _refused(item) and all(_publishes(r) for r in _runtimes(item))


def _absolute(file: Path) -> Path:
    """Returns the path without `..`, which the agent does not resolve."""
    path = file.absolute()
    if path.name == "..":
        return path.resolve()
    return path.parent.resolve() / path.name if ".." in path.parts else path


def _ask_agent(data: Path, path: Path, *, quiet: bool) -> dict[str, Any]:
    try:
        with shown_progress(path.name, quiet=quiet) as progress:
            return ControlClient(data).follow(
                "/v1/import", {"path": str(path)}, progress, "the import"
            )
    except (NoAgentError, NotPermittedError):
        raise
    except AirsideError as exc:
        return _failed(path, exc)


class _LocalImport:
    """Imports without an agent: locks the data directory and publishes to the host's runtimes."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        check_names(settings)
        self._node: Node = open_alone(settings, stack)
        self._runtimes = stack.enter_context(connected_runtimes(self._node))

    def run(self, path: Path, *, quiet: bool) -> dict[str, Any]:
        """Imports one archive and publishes its images. Raises StoppedError."""
        with (
            shown_progress(path.name, quiet=quiet) as progress,
            stopped_by_signals() as stopping,
        ):
            try:
                outcome = self._node.imports.import_file(path, stop=stopping, progress=progress)
                for runtime in self._runtimes:
                    runtime.publish(stop=stopping)
                states = [runtime.describe() for runtime in self._runtimes]
                return outcome_report(outcome, self._node.catalog.published(), states)
            except StoppedError:
                raise
            except AirsideError as exc:
                return _failed(path, exc)


def _publishes(runtime: dict[str, Any]) -> bool:
    """False if it is away, or another agent publishes to it."""
    return bool(runtime["connected"]) and not runtime["reason"]


def _runtimes(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The result of the publication to each runtime; empty for a list."""
    return [] if is_list_name(item["path"]) else item.get("runtimes", [])


def _refused(item: dict[str, Any]) -> bool:
    return any(i["state"] in FAILED for runtime in _runtimes(item) for i in runtime["images"])


def _failed(path: Path, error: AirsideError) -> dict[str, Any]:
    return {
        "path": str(path),
        "state": state_of(error),
        "images": [],
        "problems": [],
        "reason": error.message,
        "new_blobs": 0,
        "seconds": 0.0,
        "runtimes": [],
        "error": error_object(error),
    }


def outcome_text(item: dict[str, Any]) -> str:
    """Returns the result of one import as text: a line, then its images and problems."""
    lines = [f"{item['state']}: {clean(item['path'])}{_figures(item)}"]
    lines += [f"  {clean(reference)}" for reference in item["images"]]
    reasons = [problem_text(problem) for problem in item["problems"]]
    if item["reason"] and not any(item["reason"] in reason for reason in reasons):
        reasons.insert(0, item["reason"])
    lines += [f"  problem: {clean(reason)}" for reason in reasons]
    hint = item.get("error", {}).get("hint", "")
    if hint and hint not in item["reason"]:
        lines.append(f"  hint: {clean(hint)}")
    lines += [f"  {clean(text)}" for text in _runtime_texts(item)]
    return "\n".join(lines)


def _runtime_texts(item: dict[str, Any]) -> Iterator[str]:
    """Yields a line for each runtime, with its images."""
    if not item["images"] or is_list_name(item["path"]):
        return
    if item.get("runtimes") == []:
        yield "no container runtime found or set: only the registry serves these images"
    for runtime in _runtimes(item):
        socket = runtime["socket"]
        if not runtime["connected"] or runtime["reason"]:
            yield f"not in {socket}: {runtime['reason']}"
            continue
        images = {image["reference"]: image for image in runtime["images"]}
        present = [image for image in images.values() if image["present"]]
        unpacked = ", unpacked" if present and all(image["unpacked"] for image in present) else ""
        yield f"in {socket}: {count_text(len(present), 'image')}{unpacked}"
        for reference in item["images"]:
            image = images.get(reference, {"present": False, "reason": "not yet"})
            if not image["present"]:
                retry = f"; next try {time_text(at)}" if (at := image.get("next_try_at")) else ""
                yield f"not in {socket}: {reference}: {image['reason'] or image['state']}{retry}"


def _figures(item: dict[str, Any]) -> str:
    if not item["images"]:
        return ""
    images, blobs = count_text(len(item["images"]), "image"), item["new_blobs"]
    return f" ({images}, {count_text(blobs, 'new blob')}, {duration_text(item['seconds'])})"


def problem_text(problem: dict[str, str]) -> str:
    """Returns the reason of a problem, with the image's name unless the reason has it."""
    image, reason = problem["image"], problem["reason"]
    return f"{image}: {reason}" if image and image not in reason else reason
