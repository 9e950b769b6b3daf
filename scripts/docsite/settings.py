"""The tables of `docs/settings.md`, made from `airside.core.settings`."""

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any

from airside.core.settings import Limits, RetentionRule, Settings, WatchedDirectory
from airside.core.upstream_config import Upstream
from airside.core.webhook_config import Webhook

_SIZES = (("TiB", 1024**4), ("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))
_TIMES = (("days", 86_400), ("hours", 3_600), ("minutes", 60))
LIMITS = (
    "What an archive or a client may ask for. An archive that exceeds a limit is `rejected`,\n"
    "and the reason names the limit."
)
_TABLES = {
    "images": WatchedDirectory,
    "retention_rules": RetentionRule,
    "upstream": Upstream,
    "webhooks": Webhook,
}


@dataclass(frozen=True)
class Documented:
    """One setting: key, default as TOML, values or unit, and effect, all plain text."""

    key: str
    default: str
    values: str
    effect: str


def sections() -> Iterator[tuple[str, list[Documented]]]:
    """Yields the plain settings as `Settings`, then each TOML table by its head."""
    plain = [field for field in fields(Settings) if field.metadata]
    yield "Settings", _documented(plain, {field.name: field.metadata["help"] for field in plain})
    for name, cls in _TABLES.items():
        yield f"[[{name}]]", _documented(fields(cls), _attribute_docs(cls))
    limits = fields(Limits)
    texts = {field.name: field.metadata["help"] for field in limits}
    yield "[limits]", _documented(limits, texts)


def tables() -> str:
    """Returns the Markdown of all settings: plain ones, then each TOML table."""
    parts = []
    for title, settings in sections():
        is_table = title.startswith("[")
        parts.append(f"\n## `{title}`\n" if is_table else f"## {title}\n")
        if title == "[limits]":
            parts += [LIMITS, ""]
        parts += _table(settings)
    return "\n".join(parts) + "\n"


def _documented(
    found: tuple[Field[Any], ...] | list[Field[Any]], texts: dict[str, str]
) -> list[Documented]:
    return [
        Documented(
            field.name,
            default_text(_default(field), unit := field.metadata.get("unit", "")),
            unit or _choices(field),
            texts.get(field.name, ""),
        )
        for field in found
    ]


def _table(settings: list[Documented]) -> Iterator[str]:
    yield "| key | default | values | effect |"
    yield "|---|---|---|---|"
    for each in settings:
        cells = [f"`{each.key}`", each.default, _cell(each.values), _cell(each.effect)]
        yield "| " + " | ".join(cells) + " |"


def _default(field: Field[Any]) -> object:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else None


def default_text(value: object, unit: str) -> str:
    """Returns a default as TOML has it, with its meaning where the number does not show it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    if isinstance(value, int | float):
        return _number_text(value, unit)
    return f'`"{value}"`'


def _number_text(value: float, unit: str) -> str:
    if unit.startswith("bytes") and value:
        sizes = [(name, value / size) for name, size in _SIZES if value % size == 0]
        return f'`"{sizes[0][1]:g}{sizes[0][0]}"`' if sizes else f"`{value}`"
    text = f"`{int(value) if value == int(value) else value}`"
    if unit != "seconds":
        return text
    long = [f" ({value / size:g} {name})" for name, size in _TIMES if value >= 2 * size]
    return text + "".join(long[:1])


def _choices(field: Field[Any]) -> str:
    """Returns the values that a Literal allows, or the type."""
    text = field.type if isinstance(field.type, str) else str(field.type)
    if "Literal[" in text:
        inner = text.partition("Literal[")[2].partition("]")[0]
        return "|".join(part.strip(" '\"") for part in inner.split(","))
    return {"bool": "true|false", "<class 'bool'>": "true|false"}.get(text, "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _attribute_docs(cls: type) -> dict[str, str]:
    """Returns the docstring under each attribute of a class."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found = {}
    for before, node in itertools.pairwise(body):
        if (
            isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            found[before.target.id] = " ".join(node.value.value.split())
    return found
