"""What `scripts/checks/shell.py` finds in documents."""

from pathlib import Path

from checks import shell
from checks.prose import Text

ROOT = Path(__file__).parents[3]


def text(content: str, file: str = "docs/page.md") -> Text:
    return Text(file, content)


def test_a_block_that_is_no_shell_is_found():
    page = text("x\n\n```sh\nfor x in 1 2\n```\n\n```console\n$ echo 'a\n```\n")
    first, second = shell.wrong_shell(page)
    assert first.startswith("docs/page.md:3: no shell: ")
    assert second.startswith("docs/page.md:7: no shell: ")


def test_what_a_console_prints_is_no_shell_and_is_not_read():
    page = text("```console\n$ echo a \\\n    b\n) it printed (\n# id -u\n```\n")
    assert list(shell.wrong_shell(page)) == []


def test_a_translation_has_the_commands_of_its_original():
    original = text("```sh\nairside status  # how it is\nairside doctor\n```\n")
    same = text("```sh\nairside status  # 状态\nairside doctor\n```\n", "docs/page.zh.md")
    assert list(shell.other_commands(same, original)) == []
    less = text("```sh\nairside status\n```\n", "docs/page.zh.md")
    assert list(shell.other_commands(less, original)) == [
        "docs/page.zh.md:1: lacks the command of docs/page.md: airside doctor"
    ]
    [problem] = shell.other_commands(original, less)
    assert problem == "docs/page.md:1: docs/page.zh.md lacks the command: airside doctor"


def test_the_documents_of_this_repository_have_no_problems():
    assert shell.problems(ROOT) == []
