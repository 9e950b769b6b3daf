"""How long a module, class or function may be, and how many parameters a function takes.

`LIMITS` has them. There are no exceptions: cut along meaning.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from checks.source import modules

LIMITS = {"module": 400, "class": 300, "function": 60, "parameters": 8}
"""Lines of each; `parameters` counts neither `self` nor `cls`."""


def problems(root: Path) -> list[str]:
    """Returns a line for each thing over its limit."""
    found = []
    for module in modules(root):
        where = module.path.relative_to(root)
        for what, kind, size in _sizes(module.tree, module.text):
            name = f"{where} {what}".strip()
            if size > LIMITS[kind]:
                unit = "parameters" if kind == "parameters" else "lines"
                found.append(f"{name}: {size} {unit}, at most {LIMITS[kind]} in a {_holder(kind)}")
    return found


def _holder(kind: str) -> str:
    return "function" if kind == "parameters" else kind


def _sizes(tree: ast.Module, text: str) -> Iterator[tuple[str, str, int]]:
    """Yields the qualified name, the kind of limit, and the size."""
    yield "", "module", text.count("\n")
    yield from _sizes_below(tree, "")


def _sizes_below(parent: ast.AST, prefix: str) -> Iterator[tuple[str, str, int]]:
    for node in ast.iter_child_nodes(parent):
        inner = prefix
        if isinstance(node, ast.ClassDef):
            inner = f"{prefix}{node.name}."
            yield inner[:-1], "class", _lines(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = f"{prefix}{node.name}."
            yield inner[:-1], "function", _lines(node)
            yield inner[:-1], "parameters", _parameters(node.args)
        yield from _sizes_below(node, inner)


def _lines(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def _parameters(args: ast.arguments) -> int:
    named = [*args.posonlyargs, *args.args]
    without_self = named[1:] if named and named[0].arg in {"self", "cls"} else named
    return len(without_self) + len(args.kwonlyargs)
