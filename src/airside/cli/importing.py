"""`airside import`: through the agent where one runs, else with the data directory to itself."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from airside.cli.alone import open_alone
from airside.cli.client import ControlClient, NoAgentError, NotPermittedError
from airside.cli.failure import error_from, error_object, exit_code_of, state_of
from airside.cli.options import (
    ANY_PATH,
    config_option,
    data_option,
    effective_settings,
    example,
    json_option,
)
from airside.cli.output import clean, count_text, duration_text, write, write_json
from airside.cli.progress import Progress, shown_progress, stopped_by_signals
from airside.config import Settings
from airside.errors import AirsideError, StoppedError, UnavailableError
from airside.node import Node
from airside.report import outcome_report


@click.command("import", epilog=example("airside import /media/usb/*.tar.zst"))
@click.argument("files", nargs=-1, required=True, type=ANY_PATH, metavar="FILE...")
@data_option
@config_option
@json_option
def import_files(
    files: tuple[Path, ...], data: Path | None, config: Path | None, *, as_json: bool
) -> int:
    """Import archives now, one after the other, and wait until their images can be pulled.

    The files may be anywhere, and may be removed afterwards. An agent that runs does the work;
    without one it is done here. The images of a list (.txt) are pulled by the container runtime
    that the agent is connected to. Exit code 3: an archive, or an image in it, was rejected or is
    incomplete; 1: an import failed.
    """
    settings = effective_settings(config, data=data).settings
    items = []
    for item in _import_all(settings, files, quiet=as_json):
        items.append(item)
        if not as_json:
            write(outcome_text(item))
    if as_json:
        write_json({"schema": 1, "items": items})
    return exit_code_of(items)


def _import_all(
    settings: Settings, files: tuple[Path, ...], *, quiet: bool
) -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        node: Node | None = None
        for file in files:
            path = file.absolute()
            if node is None:
                try:
                    yield _ask_agent(settings.data, path, quiet=quiet)
                    continue
                except NoAgentError:
                    node = open_alone(settings, stack)
            yield _import_here(node, path, quiet=quiet)


def _ask_agent(data: Path, path: Path, *, quiet: bool) -> dict[str, Any]:
    try:
        with shown_progress(path.name, quiet=quiet) as progress:
            return _follow_import(data, path, progress)
    except (NoAgentError, NotPermittedError):
        raise
    except AirsideError as exc:
        return _failed(path, exc)


def _follow_import(data: Path, path: Path, progress: Progress) -> dict[str, Any]:
    lines = ControlClient(data).iter_lines("POST", "/v1/import", body={"path": str(path)})
    for line in lines:
        if "result" in line:
            result: dict[str, Any] = line["result"]
            return result
        if "error" in line:
            raise error_from(line["error"])
        progress(line["done_bytes"], line["total_bytes"])
    raise UnavailableError("the agent ended the import without a result: see its log")


def _import_here(node: Node, path: Path, *, quiet: bool) -> dict[str, Any]:
    with (
        shown_progress(path.name, quiet=quiet) as progress,
        stopped_by_signals() as stopping,
    ):
        try:
            return outcome_report(node.import_file(path, stop=stopping, progress=progress))
        except StoppedError:
            raise
        except AirsideError as exc:
            return _failed(path, exc)


def _failed(path: Path, error: AirsideError) -> dict[str, Any]:
    return {
        "path": str(path),
        "state": state_of(error),
        "images": [],
        "problems": [],
        "reason": error.message,
        "new_blobs": 0,
        "seconds": 0.0,
        "error": error_object(error),
    }


def outcome_text(item: dict[str, Any]) -> str:
    """What became of one archive: a line, then its images and problems."""
    lines = [f"{item['state']}: {clean(item['path'])}{_figures(item)}"]
    lines += [f"  {clean(reference)}" for reference in item["images"]]
    reasons = [problem_text(problem) for problem in item["problems"]]
    if item["reason"] and not any(item["reason"] in reason for reason in reasons):
        reasons.insert(0, item["reason"])
    lines += [f"  problem: {clean(reason)}" for reason in reasons]
    hint = item.get("error", {}).get("hint", "")
    if hint and hint not in item["reason"]:
        lines.append(f"  hint: {clean(hint)}")
    return "\n".join(lines)


def _figures(item: dict[str, Any]) -> str:
    if not item["images"]:
        return ""
    images, blobs = count_text(len(item["images"]), "image"), item["new_blobs"]
    return f" ({images}, {count_text(blobs, 'new blob')}, {duration_text(item['seconds'])})"


def problem_text(problem: dict[str, str]) -> str:
    """Why an image was not taken, with its name unless the reason has it."""
    image, reason = problem["image"], problem["reason"]
    return f"{image}: {reason}" if image and image not in reason else reason
