import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from airside import __version__, containerd
from airside.catalog import schema
from airside.cli import client, output
from airside.cli.client import ControlClient, NoAgentError, NotPermittedError
from airside.cli.config import setting_items
from airside.cli.failure import error_from, error_object, exit_code, exit_code_of, state_of
from airside.cli.main import airside, main
from airside.cli.output import clean, count_text, duration_text, size_text, time_text
from airside.cli.table import aligned, write_table
from airside.core.config import load_settings
from airside.core.errors import (
    AirsideError,
    ArchiveFormatError,
    ArchiveLimitError,
    ArchiveTruncatedError,
    ArchiveUnreadableError,
    ConfigError,
    ConflictError,
    DigestMismatchError,
    ManifestInvalidError,
    NotFoundError,
    ReferenceInvalidError,
    RequestInvalidError,
    StorageFullError,
    UnavailableError,
)
from airside.core.settings import FORMAT, Limits
from airside.diagnostics import reports as report
from airside.importer.importer import Outcome
from airside.oci.digest import digest_of
from airside.store.hash_only import HashOnlyStore
from support.schemas import check_output, name_of

DOCS = (Path(__file__).parents[3] / "docs/cli.md").read_text(encoding="utf-8")


def commands(group=airside, prefix=""):
    """Name → command, those of groups as `config show`."""
    context = click.Context(group)
    found = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            found |= commands(command, f"{prefix}{name} ")
        else:
            found[prefix + name] = command
    return found


COMMANDS = commands()


def section(name):
    """The part of the documentation on one command."""
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", DOCS, re.MULTILINE | re.DOTALL)
    return found[1]


@pytest.fixture
def run(capsys):
    def run(*args):
        code = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        name = name_of(args) if captured.out.startswith("{") else None
        if name is not None:
            check_output(name, json.loads(captured.out))
        return code, captured.out, captured.err

    return run


# Sizes, times, text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12_345_678, "12.3 MB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (5 * 10**18, "5000.0 PB"),
        (None, ""),
    ],
)
def test_sizes_are_powers_of_a_thousand_with_one_digit(size_bytes, text):
    assert size_text(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.004, "0.00 s"),
        (0.42, "0.42 s"),
        (4.21, "4.2 s"),
        (42, "42 s"),
        (200, "3 min 20 s"),
        (18_180, "5 h 3 min"),
        (187_200, "2 d 4 h"),
        (None, ""),
    ],
)
def test_durations_have_two_parts_at_most(seconds, text):
    assert duration_text(seconds) == text


def test_times_are_local(monkeypatch):
    monkeypatch.setenv("TZ", "UTC-02")
    time.tzset()
    try:
        assert time_text("2026-01-02T03:04:05.678Z") == "2026-01-02 05:04:05"
        assert time_text("sometime") == "sometime"
        assert time_text(None) == ""
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_could_steer_a_terminal_becomes_visible():
    assert clean("a\x1b[2Jb\nc\u202ed\udcff") == r"a\x1b[2Jb\nc\u202ed\udcff"
    assert clean("ä 漢 é") == "ä 漢 é"


def test_one_thing_is_no_plural():
    assert (count_text(1, "image"), count_text(0, "image")) == ("1 image", "0 images")


def test_columns_are_aligned_and_lines_have_no_trailing_space():
    text = aligned([["NAME", "SIZE", "X"], ["a/long/path", "1 B", ""]], [False, True, False])
    assert text == "NAME         SIZE  X\na/long/path   1 B"


def test_a_table_that_is_piped_is_plain_and_whole(capsys):
    name = "registry.example.com/" + "x" * 300
    write_table(("REFERENCE", "SIZE"), [(name, "1 B"), ("a\tb", "")], right=("SIZE",))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"{name}   1 B"
    assert lines[2] == r"a\tb"


def test_a_table_on_a_terminal_takes_no_markup_from_names(capsys, monkeypatch):
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    write_table(("PATH", "STATE"), [("/a/[red]b[/red]\x1b[1m.tar", "rejected")])
    text = capsys.readouterr().out
    assert r"/a/[red]b[/red]\x1b[1m.tar" in text


# Errors and exit codes


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ConfigError, 2),
        (RequestInvalidError, 2),
        (ReferenceInvalidError, 2),
        (ArchiveFormatError, 3),
        (DigestMismatchError, 3),
        (ConflictError, 1),
        (NotFoundError, 1),
        (StorageFullError, 1),
        (UnavailableError, 1),
    ],
)
def test_every_kind_of_error_has_its_exit_code(kind, code):
    assert exit_code(kind("no")) == code


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ([], 0),
        (["imported"], 0),
        (["imported", "partial"], 3),
        (["rejected", "imported"], 3),
        (["incomplete"], 3),
        (["rejected", "failed"], 1),
        (["unreadable"], 1),
    ],
)
def test_several_archives_have_one_exit_code(states, code):
    assert exit_code_of([{"state": state} for state in states]) == code


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (ArchiveTruncatedError, "incomplete"),
        (ArchiveFormatError, "rejected"),
        (ArchiveUnreadableError, "unreadable"),
        (StorageFullError, "failed"),
    ],
)
def test_an_error_gives_the_state_of_an_archive(kind, state):
    assert state_of(kind("no")) == state


def test_an_error_is_the_same_after_the_socket():
    error = ArchiveTruncatedError("it ends early", path="/a.tar", hint="wait")
    again = error_from(json.loads(json.dumps(error_object(error))))
    assert type(again) is ArchiveTruncatedError
    assert (again.message, again.context) == (error.message, error.context)


@pytest.mark.parametrize("value", [None, "x", {}, {"code": "from-the-future", "n": 1}])
def test_an_error_that_we_do_not_know_is_one_of_the_agent(value):
    error = error_from(value)
    assert type(error) is UnavailableError
    assert error.message


def test_the_stable_codes_are_unique():
    def below(kind):
        return [kind, *(found for sub in kind.__subclasses__() for found in below(sub))]

    own = [kind.code for kind in below(AirsideError) if "code" in vars(kind)]
    assert len(own) == len(set(own))


# The command line itself


def test_version(run):
    assert run("--version") == (0, f"airside {__version__}\n", "")


def test_version_as_json_has_the_formats_and_the_commit_of_the_build(run, monkeypatch, tmp_path):
    code, out, _ = run("--version", "--json")
    found = json.loads(out)
    assert (code, found["version"], found["commit"]) == (0, __version__, None)
    assert (found["catalog_schema"], found["data_format"]) == (schema.VERSION, FORMAT)
    (tmp_path / "commit.txt").write_text("5ca1ab1e\n")
    monkeypatch.setattr("airside.cli.version.files", lambda _: tmp_path)
    assert json.loads(run("--version", "--json")[1])["commit"] == "5ca1ab1e"
    documented = re.search(r"^\*\*Version\.\*\* .*", DOCS, re.MULTILINE)[0]
    assert [key for key in found if f"`{key}`" not in documented] == []


def test_the_containerd_api_is_the_one_of_the_services_that_are_called():
    proto = Path(containerd.__file__).parent / "proto"
    packages = re.findall(
        r"^package (?:containerd\.services|runtime).*?(v\d+);",
        "\n".join(path.read_text() for path in sorted(proto.glob("*.proto"))),
        re.MULTILINE,
    )
    assert set(packages) == {containerd.API}


def test_json_before_the_command_is_wrong_usage_that_says_where_it_belongs(run):
    code, out, err = run("--json", "status")
    assert (code, out) == (2, "")
    assert "airside COMMAND --json" in err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_and_needs_nothing(name, run):
    code, out, _ = run(*name.split(), "--help")
    assert code == 0
    assert f"Example:\n    airside {name}" in out


def test_help_lists_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    for name in airside.list_commands(None):
        assert re.search(rf"^  {name}\s+\w", out, re.MULTILINE)


def test_a_mistyped_command_suggests_the_right_one(run):
    code, _, err = run("stats")
    assert code == 2
    assert "Did you mean status?" in err
    assert "'rollback'" in run("tag", "rolback")[2]
    assert r"'\x1b[31mfrob'" in run("\x1b[31mfrob")[2]


def test_help_of_a_command_is_the_same_by_its_name_and_by_the_option(run):
    for words in ((), ("status",), ("mirror", "write"), ("tag",)):
        assert run("help", *words)[:2] == run(*words, "--help")[:2]
    assert run("help", "status", "more")[0] == 2


def test_color_may_stand_before_and_after_the_command(run):
    for words in (("--color", "never", "schema"), ("schema", "--color", "never")):
        assert run(*words)[0] == 0
    assert run("schema", "--color", "loud")[0] == 2


@pytest.mark.parametrize(
    "args",
    [
        ["frobnicate"],
        ["status", "--frobnicate"],
        ["inspect"],
        ["import"],
        ["events", "--limit", "many"],
        ["run", "--log-format", "xml"],
        ["sample", "x.tar", "--platform", "linux/amd64"],
        ["sample", "x.tar", "--format", "docker", "--platform", "linux"],
    ],
)
def test_wrong_usage_is_2_and_told_on_standard_error(args, run):
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert "Usage: airside" in err


def test_wrong_settings_are_2(run, monkeypatch):
    monkeypatch.setenv("AIRSIDE_FROB", "1")
    code, out, err = run("status")
    assert (code, out) == (2, "")
    assert err.startswith("airside: ")
    code, out, _ = run("status", "--json")
    assert code == 2
    error = json.loads(out)
    assert error["schema"] == 1
    assert error["error"]["code"] == "config"


def test_interruption_is_130(run, monkeypatch):
    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("airside.cli.status.fetch_report", interrupted)
    assert run("status")[0] == 130


def test_flags_of_run_become_settings(run, monkeypatch, tmp_path):
    taken = []

    class Agent:
        @staticmethod
        def run_agent(effective):
            taken.append(effective)
            return 7

    monkeypatch.setitem(sys.modules, "airside.agent.daemon", Agent)
    (tmp_path / "a.toml").write_text('log_level = "debug"\nnamespace = "file"\n')
    code, _, _ = run(
        *("run", "--config", tmp_path / "a.toml", "--images", tmp_path / "a"),
        *("--images", tmp_path / "b", "--data", tmp_path / "data", "--listen", ""),
        *("--runtime", "none", "--namespace", "flag", "--log-format", "json"),
    )
    assert code == 7
    settings = taken[0].settings
    assert [w.path for w in settings.images] == [tmp_path / "a", tmp_path / "b"]
    assert (settings.data, settings.listen) == (tmp_path / "data", "")
    assert (settings.runtime, settings.namespace) == (("none",), "flag")
    assert (settings.log_format, settings.log_level) == ("json", "debug")


@pytest.mark.parametrize("name", COMMANDS)
def test_only_the_agent_imports_the_web_framework(name):
    code = (
        "import sys; from airside.cli.main import main;"
        f" main([*{name!r}.split(), '--help']);"
        " sys.exit(bool({'aiohttp', 'asyncio', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


# Settings


def test_config_show_tells_every_setting_and_its_origin(run, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRSIDE_RETENTION", "3")
    (tmp_path / "a.toml").write_text("[limits]\nmembers = 7\n")
    code, out, _ = run(
        *("config", "show", "--json", "--config", tmp_path / "a.toml", "--data", tmp_path)
    )
    items = {item["key"]: item for item in json.loads(out)["items"]}
    assert code == 0
    assert (items["retention"]["value"], items["retention"]["origin"]) == (3, "environment")
    assert (items["limits.members"]["value"], items["data"]["origin"]) == (7, "flag")
    assert items["images"]["value"][0]["on_removal"] == "unpin"
    assert items["runtime"]["value"] == ["auto"]
    origins = load_settings(file=None, environ={}, flags={}).origins
    assert set(items) == set(origins)


def test_config_show_as_text_has_a_line_for_each_setting(run):
    code, out, _ = run("config", "show")
    rows = setting_items(load_settings(file=None, environ={}, flags={}))
    assert code == 0
    assert len(out.splitlines()) == len(rows) + 1


# The client


def test_a_socket_that_may_not_be_used_says_what_to_do(monkeypatch, tmp_path, run):
    def refused(*_args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(client, "_connect", refused)
    with pytest.raises(NotPermittedError) as caught:
        ControlClient(tmp_path).get("/v1/status")
    assert "root" in caught.value.context["hint"]
    code, out, err = run("status", "--data", tmp_path)
    assert (code, out) == (1, "")
    assert "hint: run the command as root" in err


def test_no_socket_and_a_dead_socket_are_no_agent(tmp_path):
    with pytest.raises(NoAgentError):
        client.connect_control(tmp_path, 1)
    with pytest.raises(NoAgentError):
        client.connect_control(tmp_path / "absent", 1)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "airside.sock"))
    with pytest.raises(NoAgentError):
        client.connect_control(tmp_path, 1)


# The store that keeps nothing


def ingested(store, data, chunk_bytes=1000):
    ingest = store.ingest()
    for start in range(0, len(data), chunk_bytes):
        ingest.hash(data[start : start + chunk_bytes])
        ingest.write(memoryview(data)[start : start + chunk_bytes])
    ingest.finish()
    return ingest


@pytest.mark.parametrize("data", [b'{"a":1}', b"[]", b" \n{}", b"", b"{" * 5000])
def test_what_may_be_a_document_can_be_read(data):
    ingest = ingested(HashOnlyStore(Limits()), data)
    assert ingest.digest == digest_of(data)
    assert ingest.size_bytes == len(data)
    assert ingest.open().read() == data


def test_what_is_no_document_is_hashed_and_dropped():
    ingest = ingested(HashOnlyStore(Limits()), b"\x1f\x8b{}" * 5000)
    assert (ingest.digest, ingest.size_bytes) == (digest_of(b"\x1f\x8b{}" * 5000), 20_000)
    with pytest.raises(ManifestInvalidError):
        ingest.open()


def test_a_document_over_the_limit_is_dropped():
    store = HashOnlyStore(Limits(document_bytes=2000))
    assert ingested(store, b"{" * 2000).open().read() == b"{" * 2000
    with pytest.raises(ArchiveLimitError):
        ingested(store, b"{" * 2001).open()


def test_all_documents_together_are_bounded_until_they_are_discarded():
    store = HashOnlyStore(Limits(), kept_bytes=3000)
    first = ingested(store, b"{" * 2000)
    with pytest.raises(ArchiveLimitError):
        ingested(store, b"{" * 2000).open()
    first.discard()
    first.discard()
    assert ingested(store, b"{" * 3000).open().read() == b"{" * 3000


def test_the_hashing_store_holds_nothing():
    store = HashOnlyStore(Limits())
    digest = ingested(store, b"{}").digest
    assert (store.stat(digest), store.delete(digest), list(store.digests())) == (None, 0, [])
    with pytest.raises(NotFoundError):
        store.open(digest)
    with pytest.raises(NotImplementedError):
        store.commit([])


# The documentation


@pytest.mark.parametrize("name", COMMANDS)
def test_the_documentation_has_every_option(name):
    text = section(name)
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            option = max(parameter.opts, key=len)
            assert option in text, f"{option} of {name} is not in docs/cli.md"


def test_the_documentation_has_no_other_command():
    documented = set(re.findall(r"^## (.*)$", DOCS, re.MULTILINE)) - {"What all commands share"}
    assert documented == set(COMMANDS)


def test_the_documentation_has_every_key_of_an_import():
    keys = report.outcome_report(Outcome(Path("/a"), "imported"))
    assert all(f"`{key}`" in section("import") for key in keys)
