"""The JSON Schemas that Airside ships: whether outputs are as they say.

The whole suite asks for each `--json` output that it sees (`support.command`, `support.agent`), so
that no key is undocumented. An output of a shape that was right before is not looked at again.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from airside.cli.schema import bundled, schema_names

_MOST_ITEMS = 200
"""A longer list is one of a test of scale; others have its shape."""
_seen: set[tuple[str, Any]] = set()


def check_output(name: str, value: Any) -> None:
    """Raise AssertionError, naming the key, unless the value is as the schema says."""
    shape = (name, _shape(value))
    if shape in _seen or _is_long(value):
        return
    errors = sorted(_validator(name).iter_errors(value), key=lambda each: len(each.path))
    if errors:
        where = "/".join(map(str, errors[0].absolute_path)) or "its top"
        raise AssertionError(
            f"airside schema {name} does not describe this output, at {where}: "
            f"{errors[0].message[:500]}\n  change src/airside/cli/schemas/{name}.json (or "
            "common.json) and docs/cli.md together with the output"
        )
    _seen.add(shape)


def check_report(path: str, value: Any) -> None:
    """Check what the control socket answers, of which commands print the same."""
    name = path.partition("?")[0].removeprefix("/v1/")
    if name in {"status", "images", "events", "explain"}:
        check_output(name, value)
    elif name == "archives":  # in pages, which the command puts together
        check_output(name, {key: each for key, each in value.items() if key != "next"})


def name_of(words: Sequence[object]) -> str | None:
    """Returns the schema of a command line's output; None if it prints none that is one object."""
    given = [str(word) for word in words]
    if "--json" not in given or "--follow" in given or "-f" in given or "--help" in given:
        return None
    if "--version" in given:
        return "version"
    if "--acknowledge" in given:
        return "status-acknowledge"
    names = schema_names()
    return next((n for n in ("-".join(given[:2]), given[0]) if n in names), None)


@cache
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - 0.2 s, for those who need it

    return Draft202012Validator(bundled(name), format_checker=Draft202012Validator.FORMAT_CHECKER)


def _is_long(value: Any) -> bool:
    items = value.get("items") if isinstance(value, dict) else None
    return isinstance(items, list) and len(items) > _MOST_ITEMS


def _shape(value: Any) -> Any:
    """Returns the keys and types of a value, hashable; texts that may be of a list are kept."""
    if isinstance(value, dict):
        return frozenset(
            (key, each if key in {"state", "kind", "severity"} else _shape(each))
            for key, each in value.items()
        )
    if isinstance(value, list):
        return frozenset(map(_shape, value[:_MOST_ITEMS]))
    return type(value)
