import pytest
from checks import commands, documents, names
from checks.prose import Text, inline_code, shell_lines
from checks.source import ROOT

NAMES = names.names_of(ROOT)
TREE = documents.Tree(ROOT)


def text(content: str) -> Text:
    return Text("docs/page.md", content)


@pytest.mark.parametrize(
    "name",
    [
        "airside.oci.digest",
        "airside.oci.digest.Digest",
        "airside.core.errors.AirsideError.code",
        "airside.containerd.proto.containerd",
        "airside.audit",  # a logger
        "DATA/airside.sock",
        "/etc/airside.toml",
        "oci.digest",
        "catalog.db",
        "containerd.socket",  # a check of the doctor
        "settings.data",
    ],
)
def test_what_exists_may_be_named(name):
    assert list(documents.wrong_names(text(f"see `{name}`."), NAMES)) == []


@pytest.mark.parametrize(
    "name",
    [
        "airside.web",
        "airside.oci.digest.Nothing",
        "airside.core.errors.AirsideError.hue",
        "registry.routes",
    ],
)
def test_a_name_that_is_not_defined_is_a_problem_at_its_line(name):
    found = list(documents.wrong_names(text(f"first\n`{name}` does it."), NAMES))
    assert found == [f"docs/page.md:2: {name} does not exist"]


@pytest.mark.parametrize(
    "line",
    [
        "airside sample hello.tar.zst",
        ".venv/bin/airside run --images ./images --data ./data &",
        "sudo AIRSIDE_DATA=/x airside images --json | jq '.[0]'",
        "airside mirror write --all            # or --registry docker.io",
        "airside events -n 3 > events.txt",
        "make run; airside --version",
        "sudo mkdir airside --what",
    ],
)
def test_commands_of_blocks_that_airside_takes_are_no_problem(line):
    assert list(documents.wrong_commands(text(f"```console\n$ {line}\nout --put\n```\n"))) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("airside pull x", "airside has no command pull"),
        ("airside mirror undo", "airside mirror has no command undo"),
        ("airside images --histroy", "--histroy"),
        ("true && airside gc now", "airside gc takes no now"),
        ("airside explain", "airside explain needs"),
        ("airside run --log-format xml", "is never xml"),
        ("airside \\\n  gc --force", "--force"),
    ],
)
def test_commands_of_blocks_that_airside_refuses_are_problems(line, reason):
    (found,) = documents.wrong_commands(text(f"```sh\n{line}\n```\n"))
    assert found.startswith("docs/page.md:2: ")
    assert reason in found


@pytest.mark.parametrize(
    "code",
    [
        "airside explain",
        "airside explain REF|DIGEST|FILE",
        "airside verify [--repair] [--data DIR]",
        "airside run [--listen HOST[:PORT]]... [--log-format auto|text|json]",
        "airside COMMAND --help",
        "airside import {path}",
        "airside mirror\nwrite --all | --registry HOST...",
    ],
)
def test_sentences_may_name_a_command_or_its_synopsis(code):
    assert list(documents.wrong_commands(text(f"Run `{code}` then."))) == []


@pytest.mark.parametrize(
    "code",
    [
        "airside fetch",
        "airside gc [--force]",
        "airside run [--log-format auto|xml]",
        "airside gc X",
    ],
)
def test_sentences_may_not_name_what_airside_refuses(code):
    assert len(list(documents.wrong_commands(text(f"Run `{code}` then.")))) == 1


def test_a_synopsis_of_each_command_is_in_the_reference():
    assert list(documents.wrong_synopses(ROOT)) == []
    assert commands.commands()["airside verify"] >= {"--repair", "--json"}


def test_a_command_without_a_synopsis_or_an_option_is_named(tmp_path):
    (tmp_path / "docs").mkdir()
    reference = (ROOT / "docs/cli.md").read_text()
    changed = reference.replace("airside gc", "airside tidy").replace(" [--strict]", "")
    (tmp_path / "docs/cli.md").write_text(changed)
    assert sorted(documents.wrong_synopses(tmp_path)) == [
        "docs/cli.md: no synopsis of `airside gc`",
        "docs/cli.md: the synopsis of `airside doctor` lacks --strict",
        "docs/cli.md: the synopsis of `airside mirror write` lacks --strict",
    ]


@pytest.mark.parametrize(
    "path",
    [
        "docs/adr/",
        "docs/adr/0001-*.md",
        "oci/digest.py",
        "digest.py",
        "src/airside/{oci,core}",
        "Makefile",
        "hosts.toml",
        "application/json",
        "tests/unit",
    ],
)
def test_paths_that_exist_or_are_not_ours_are_no_problem(path):
    assert list(documents.wrong_paths(text(f"see `{path}`"), TREE)) == []


@pytest.mark.parametrize(
    "path", ["docs/none.md", "src/airside/web", "oci/none.py", "none.py", "tests/{unit,none}/x"]
)
def test_paths_of_no_file_are_problems(path):
    found = list(documents.wrong_paths(text(f"see `{path}`"), TREE))
    assert found == [f"docs/page.md:1: no file {path}"]


def test_paths_without_backticks_are_judged_where_they_are_plainly_ours():
    page = text("see docs/none.md and x/docs/none.md, or docs/cli.md.")
    assert list(documents.wrong_paths(page, TREE)) == ["docs/page.md:1: no file docs/none.md"]


def test_links_need_a_file_and_a_heading():
    good = "[a](cli.md#images) [b](https://example.org/x#y) [c](adr/)"
    assert list(documents.wrong_links(text(good), ROOT)) == []
    bad = "[a](none.md)\n[b](cli.md#none)"
    assert list(documents.wrong_links(text(bad), ROOT)) == [
        "docs/page.md:1: no file none.md",
        "docs/page.md:2: no heading #none in cli.md",
    ]


def test_targets_and_decisions_must_exist():
    page = text("`make check`, `make undo`, ADR 0002, ADR 9999")
    assert list(documents.wrong_targets(page, ROOT)) == [
        "docs/page.md:1: the Makefile has no target undo"
    ]
    assert list(documents.wrong_adrs(page, ROOT)) == ["docs/page.md:1: no ADR 9999 in docs/adr"]


@pytest.mark.parametrize(
    "words", ["(design 4.6)", "as the field notes say", "/work/x", "shared/a.md"]
)
def test_what_cites_a_document_elsewhere_is_a_problem(words):
    (found,) = documents.outside(text(words))
    assert "outside the repository" in found


def test_code_in_blocks_is_no_inline_code():
    page = text("a `b\nc` d\n```toml\nx = `y`\n```\n`z`")
    assert [(span.where, span.code) for span in inline_code(page)] == [
        ("docs/page.md:1", "b c"),
        ("docs/page.md:6", "z"),
    ]


def test_output_in_console_blocks_is_no_command():
    page = text("```console\n$ a \\\n  b\nout\n# c\n```\n```toml\n$ d\n```\n")
    assert [(span.where, " ".join(span.code.split())) for span in shell_lines(page)] == [
        ("docs/page.md:2", "a b"),
        ("docs/page.md:5", "c"),
    ]
