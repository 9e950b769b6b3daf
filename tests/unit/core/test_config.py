"""Settings: file, environment and flags, and what is refused."""

from dataclasses import fields
from pathlib import Path

import pytest

from airside.core.config import default_directories, load_settings, setting_rows
from airside.core.errors import ConfigError
from airside.core.settings import GIB, MIB, Limits, RetentionRule, Settings, WatchedDirectory


@pytest.fixture
def load(tmp_path):
    """Loads settings from a file's text, an environment and flags."""

    def loaded(text=None, environ=None, **flags):
        file = None
        if text is not None:
            file = tmp_path / "airside.toml"
            file.write_text(text)
        return load_settings(file=file, environ=environ or {}, flags=flags)

    return loaded


def test_defaults_are_complete_and_their_origin_is_told(load):
    effective = load()
    images, data = default_directories()
    assert effective.settings == Settings(data=data, images=(WatchedDirectory(images),))
    assert set(effective.origins.values()) == {"default"}
    wanted = {f.name for f in fields(Settings)} - {"limits"}
    assert set(effective.origins) == wanted | {f"limits.{f.name}" for f in fields(Limits)}


def test_later_sources_win(load):
    text = 'listen = "a:1"\nnamespace = "file"\nlog_level = "debug"'
    environ = {"AIRSIDE_LISTEN": "b:2", "AIRSIDE_NAMESPACE": "env", "PATH": "/bin"}
    effective = load(text, environ, listen="c:3", namespace=None)
    found = effective.settings
    assert (found.listen, found.namespace, found.log_level) == ("c:3", "env", "debug")
    assert effective.origins["listen"] == "flag"
    assert effective.origins["namespace"] == "environment"
    assert effective.origins["log_level"].startswith("file ")


def test_flags_that_were_not_given_change_nothing(load):
    assert load(images=(), data=None).settings == load().settings


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ('"0"', 0),
        ('"17"', 17),
        ('"64 MiB"', 64 * MIB),
        ('"64MiB"', 64 * MIB),
        ('"2 KiB"', 2048),
        ('"3 GiB"', 3 * GIB),
        ('"1 TiB"', 1024 * GIB),
    ],
)
def test_sizes_may_have_units(load, text, value):
    assert load(f"min_free_bytes = {text}").settings.min_free_bytes == value
    assert load(f"[limits]\nblob_bytes = {text}").settings.limits.blob_bytes == value


@pytest.mark.parametrize(
    "text", ["-1", "1.5", "true", '"64 MB"', '"1e3"', '"-1"', '""', '"x"', "[]", '"1 MiB "']
)
def test_bad_sizes_are_refused(load, text):
    with pytest.raises(ConfigError, match="min_free_bytes"):
        load(f"min_free_bytes = {text}")
    with pytest.raises(ConfigError, match=r"limits\.ratio"):
        load(f"[limits]\nratio = {text}")


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("1.5", 1.5), ('"2.5"', 2.5), ("3", 3.0)])
def test_times_are_seconds(load, text, value):
    assert load(f"settle_seconds = {text}").settings.settle_seconds == value


@pytest.mark.parametrize("text", ["-1", "inf", "nan", "true", '"x"', "[]", '"1 s"'])
def test_bad_times_are_refused(load, text):
    with pytest.raises(ConfigError, match="settle_seconds"):
        load(f"settle_seconds = {text}")


@pytest.mark.parametrize(
    "text",
    [
        "unknown = 1",
        "Listen = 'x'",
        "limits.unknown = 1",
        "limits = 3",
        "images = 'x'",
        "images = [3]",
        "images = [{}]",
        "[[images]]\nstrict = true",
        "[[images]]\npath = 3",
        "[[images]]\npath = '/x'\nunknown = 1",
        "[[images]]\npath = '/x'\nstrict = 'yes'",
        "[[images]]\npath = '/x'\non_removal = 'forget'",
        "[[images]]\npath = '/x'\non_removal = 3",
        "[[images]]\npath = '/x'\nlinks = 'all'",
        "runtime = 'auto'",
        "runtime = [3]",
        "listen = 5050",
        "data = 3",
        "verify = 'some'",
        "log_level = 'loud'",
        "verify_diff_ids = true",
        "parallel_imports = 0",
        'low_space_percent = "91"',
        'low_space_percent = "a few"',
        "not toml",
        "listen = 'a'\nlisten = 'b'",
    ],
)
def test_bad_settings_are_refused(load, text):
    with pytest.raises(ConfigError):
        load(text)


def test_a_message_names_file_and_key(load, tmp_path):
    with pytest.raises(ConfigError) as caught:
        load("colour = 3")
    assert str(tmp_path / "airside.toml") in caught.value.message
    assert caught.value.context["key"] == "colour"


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b"listen = '\xe9'")
    for path in (tmp_path / "absent.toml", tmp_path, tmp_path / "latin.toml"):
        with pytest.raises(ConfigError, match=path.name):
            load_settings(file=path, environ={}, flags={})


def test_watched_directories_are_tables_or_paths(load):
    text = (
        "[[images]]\npath = '/a'\nstrict = true\non_removal = 'delete'\n"
        "[[images]]\npath = '/b'\nlinks = 'inside'"
    )
    assert load(text).settings.images == (
        WatchedDirectory(Path("/a"), "delete", strict=True),
        WatchedDirectory(Path("/b"), links="inside"),
    )
    assert load("images = ['/a', 'b']").settings.images == (
        WatchedDirectory(Path("/a")),
        WatchedDirectory(Path("b").absolute()),
    )
    given = (WatchedDirectory(Path("/c"), strict=True), Path("/d"))
    assert load(text, images=given).settings.images == (given[0], WatchedDirectory(Path("/d")))


def test_the_environment_has_lists_and_limits(load):
    environ = {
        "AIRSIDE_IMAGES": "/a:/b:",
        "AIRSIDE_RUNTIME": "auto,/run/x.sock",
        "AIRSIDE_LIMITS_MEMBERS": "7",
        "AIRSIDE_LIMITS_BLOB_BYTES": "1 GiB",
        "AIRSIDE_FAULT": "x",
        "AIRSIDE_CONFIG": "y",
    }
    effective = load(None, environ)
    found = effective.settings
    assert [watched.path for watched in found.images] == [Path("/a"), Path("/b")]
    assert found.runtime == ("auto", "/run/x.sock")
    assert (found.limits.members, found.limits.blob_bytes) == (7, GIB)
    assert effective.origins["limits.members"] == "environment"
    assert effective.origins["limits.ratio"] == "default"


def test_limits_of_several_sources_are_united(load):
    found = load("[limits]\nmembers = 5\nratio = 6", {"AIRSIDE_LIMITS_RATIO": "7"}).settings.limits
    assert (found.members, found.ratio, found.nesting) == (5, 7, Limits().nesting)


def test_an_unknown_variable_of_ours_is_an_error(load):
    with pytest.raises(ConfigError, match="environment: lisden"):
        load(None, {"AIRSIDE_LISDEN": "x"})


def test_data_becomes_absolute(load):
    assert load(data="x").settings.data == Path("x").absolute()
    assert load(data=Path("/x/y")).settings.data == Path("/x/y")


@pytest.mark.parametrize("images", ["d/oci", "d/oci/blobs", "d", "."])
def test_a_watched_directory_and_the_store_may_not_overlap(load, tmp_path, images):
    with pytest.raises(ConfigError, match="overlap"):
        load(data=tmp_path / "d", images=(tmp_path / images,))


def test_an_overlap_through_a_link_is_found(load, tmp_path):
    (tmp_path / "d/oci").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "d/oci")
    with pytest.raises(ConfigError, match="overlap"):
        load(data=tmp_path / "d", images=(tmp_path / "link",))


def test_a_watched_directory_beside_the_store_is_fine(load, tmp_path):
    watched = tmp_path / "d/images"
    assert load(data=tmp_path / "d", images=(watched,)).settings.images[0].path == watched


def test_a_directory_may_be_given_once(load):
    with pytest.raises(ConfigError, match="twice"):
        load(images=("/a", "/a"))


def test_directories_are_those_of_root_or_of_the_user(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.delenv("AIRSIDE_HOST_ROOT")
    base = Path("/var/lib/airside")
    assert default_directories() == (base / "images", base / "data")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/x/data")
    assert default_directories()[0] == Path("/home/x/data/airside/images")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/y")
    assert default_directories()[1] == Path("/home/y/.local/share/airside/data")


def test_every_setting_has_a_help_text():
    rows = {key: text for key, _, text in setting_rows()}
    settings = set(load_settings(file=None, environ={}, flags={}).origins)
    assert set(rows) == settings - {"images", "retention_rules", "upstream", "webhooks"}
    assert all(rows.values())


def test_further_names_of_the_registry_are_hosts(load):
    names = ["registry.site", "registry.site:5050", "[::1]:5050", "my_host", "*"]
    assert load(f"allowed_hosts = {names}").settings.allowed_hosts == tuple(names)
    for wrong in ("", "http://registry.site", "a b", "a/b", "*.site", "a:b", "a:1:2"):
        with pytest.raises(ConfigError, match="allowed_hosts"):
            load(f"allowed_hosts = {[wrong]}")


@pytest.mark.parametrize("key", ["reconcile_seconds", "rescan_seconds", "poll_seconds"])
def test_a_period_of_zero_would_never_rest(load, key):
    with pytest.raises(ConfigError, match=key):
        load(f"{key} = 0")


def test_what_kubernetes_tells_of_a_service_of_our_name_is_no_setting(load):
    port = "tcp://10.0.0.1:5050"
    environ = {"AIRSIDE_SERVICE_HOST": "10.0.0.1", "AIRSIDE_PORT": port, "AIRSIDE_PORT_1_TCP": port}
    assert load(environ=environ) == load()


def test_a_user_without_a_home_has_directories_too(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.delenv("AIRSIDE_HOST_ROOT")
    assert default_directories()[1] == Path("/var/lib/airside/data")
    monkeypatch.setenv("XDG_DATA_HOME", "/x")
    assert default_directories()[1] == Path("/x/airside/data")


@pytest.mark.parametrize("text", ["true", "digests", "self", "false"])
def test_read_through_is_one_of_four(text):
    found = load_settings(file=None, environ={"AIRSIDE_READ_THROUGH": text}, flags={})
    assert found.settings.read_through == text


def test_read_through_may_be_a_boolean_in_the_file(tmp_path):
    file = tmp_path / "airside.toml"
    for text, value in (("true", "true"), ("false", "false"), ('"digests"', "digests")):
        file.write_text(f"read_through = {text}\n")
        assert load_settings(file=file, environ={}, flags={}).settings.read_through == value
    for text in ('"tags"', "1"):
        file.write_text(f"read_through = {text}\n")
        with pytest.raises(ConfigError):
            load_settings(file=file, environ={}, flags={})


def test_rules_of_retention_are_tables(load):
    found = load(
        '[[retention_rules]]\nrepositories = ["team/**"]\nkeep_last = 3\nkeep_tags = ["v*"]\n'
        'older_than_seconds = 60\n[[retention_rules]]\nrepositories = ["**"]\ngenerations = 0\n'
        'untagged_seconds = 1.5\nsources = ["push", "import"]\n'
    ).settings.retention_rules
    assert found == (
        RetentionRule(("team/**",), 3, ("v*",), 60.0),
        RetentionRule(("**",), generations=0, untagged_seconds=1.5, sources=("push", "import")),
    )


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("", "repositories"),
        ("repositories = []", "repositories"),
        ('repositories = "team"', "list"),
        ('repositories = ["**"]\nkeep = 3', "no such setting: keep"),
        ('repositories = ["**"]\nkeep_last = -1', "keep_last"),
        ('repositories = ["**"]\nolder_than_seconds = "long"', "older_than_seconds"),
        ('repositories = ["**"]\nkeep_tags = ["v*"]', "keep_last or older_than_seconds"),
        ('repositories = ["**"]\nsources = ["archive"]', "remove the archive"),
        ('repositories = ["**"]\nsources = ["peer"]', "push, import"),
        ('repositories = ["**"]\nsources = []', "push, import"),
    ],
)
def test_a_rule_of_retention_that_can_not_be_meant_is_refused(load, said, word):
    with pytest.raises(ConfigError, match=word):
        load(f"[[retention_rules]]\n{said}\n")


@pytest.mark.parametrize("key", ["listen", "metrics_listen"])
@pytest.mark.parametrize("text", ["9100", "localhost", "127.0.0.1:", "[::1]:²", "h:65536", "h:-1"])
def test_an_address_that_is_none_is_refused_by_the_name_of_its_setting(load, key, text):
    with pytest.raises(ConfigError, match=rf"^{key} must be HOST:PORT") as caught:
        load(f"{key} = '{text}'")
    assert caught.value.context["key"] == key


@pytest.mark.parametrize("text", ["", "127.0.0.1:0", "[::1]:9100", ":9100", "localhost:9100"])
def test_an_address_for_metrics_is_taken(load, text):
    assert load(f"metrics_listen = '{text}'").settings.metrics_listen == text
