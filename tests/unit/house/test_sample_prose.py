import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SPEC = importlib.util.spec_from_file_location("sample_prose", ROOT / "scripts/sample-prose.py")
assert SPEC is not None
assert SPEC.loader is not None
prose = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(prose)

MODULE = '''"""Module one."""
import logging
log = logging.getLogger("airside.x")

class A:
    """Class two."""

    field: int = 0
    """Field three.

    More of it.
    """

    def f(self):
        log.warning("scrub failed: %s; retrying in %d s", self.field, 3)
        self.catalog.info("no log line")
'''


@pytest.fixture
def root(tmp_path):
    (tmp_path / "src/airside").mkdir(parents=True)
    (tmp_path / "src/airside/a.py").write_text(MODULE)
    return tmp_path


def test_docstrings_of_modules_classes_and_fields_are_found(root):
    found = [text.split("\n    ", 1) for text in prose.docstrings(root)]
    assert sorted(found) == [
        ["src/airside/a.py:1", "Module one."],
        ["src/airside/a.py:6", "Class two."],
        ["src/airside/a.py:9", "Field three.\n    \n    More of it."],
    ]


def test_log_lines_are_found_with_their_arguments(root):
    (found,) = prose.log_lines(root)
    assert "src/airside/a.py:15" in found
    assert "warning: 'scrub failed: %s; retrying in %d s', self.field, 3" in found


def test_a_seed_draws_the_same_again(monkeypatch, root):
    numbers = [str(n) for n in range(1000)]
    monkeypatch.setattr(prose, "SOURCES", {"Numbers": lambda _: numbers})
    first, second = prose.sample(root, 1), prose.sample(root, 2)
    assert first == prose.sample(root, 1) != second
    assert len(set(first.split()) & set(numbers)) >= 10
