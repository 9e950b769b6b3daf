from pathlib import Path

import pytest
from checks import limits

from airside import __name__ as package


def tree_with(root: Path, text: str) -> Path:
    folder = root / "src" / package / "room"
    folder.mkdir(parents=True)
    (folder / "module.py").write_text(text)
    return root


def body(lines: int, indent: str) -> str:
    return f"{indent}x = 1\n" * lines


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize(
    ("text_of", "what", "limit"),
    [
        (lambda lines: body(lines, ""), "", "400 in a module"),
        (lambda lines: "class A:\n" + body(lines - 1, "    "), " A", "300 in a class"),
        (lambda lines: "def f():\n" + body(lines - 1, "    "), " f", "60 in a function"),
        (lambda lines: "async def f():\n" + body(lines - 1, "    "), " f", "60 in a function"),
    ],
)
def test_what_is_longer_than_its_limit_is_named(tmp_path, text_of, what, limit, over):
    lines = int(limit.split()[0]) + over
    found = limits.problems(tree_with(tmp_path, text_of(lines)))
    expected = f"src/airside/room/module.py{what}: {lines} lines, at most {limit}"
    assert found == ([expected] if over else [])


def test_parameters_are_counted_without_self(tmp_path):
    named = ", ".join(f"p{n}" for n in range(7))
    methods = f"    def ok(self, {named}, *, k): ...\n    def bad(self, {named}, *, k, l): ...\n"
    assert limits.problems(tree_with(tmp_path, "class A:\n" + methods)) == [
        "src/airside/room/module.py A.bad: 9 parameters, at most 8 in a function"
    ]


def test_a_function_inside_a_function_is_measured_too(tmp_path):
    text = "def f():\n  def g():\n" + body(60, "    ")
    found = limits.problems(tree_with(tmp_path, text))
    assert [problem.split(":")[0].split()[-1] for problem in found] == ["f", "f.g"]


def test_generated_code_has_no_limit(tmp_path):
    folder = tmp_path / "src/airside/containerd/proto"
    folder.mkdir(parents=True)
    (folder / "api_pb2.py").write_text(body(500, ""))
    assert limits.problems(tmp_path) == []
