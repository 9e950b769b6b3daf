import tomllib

import pytest

from airside.containerd.mirror.cri_config import Registry, advice, registry_settings


def read(*texts):
    return registry_settings(map(tomllib.loads, texts))


def test_each_version_has_its_plugin():
    for version, plugin in (
        (1, "cri"),
        (2, "io.containerd.grpc.v1.cri"),
        (3, "io.containerd.cri.v1.images"),
    ):
        text = f'version = {version}\n[plugins."{plugin}".registry]\nconfig_path = "/a:/b:"\n'
        assert read(text).directories() == ("/a", "/b")
    assert read('[plugins.cri.registry]\nconfig_path = "/a"\n').config_path == "/a"


def test_later_files_go_before_earlier_ones():
    one, two = (
        f'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/{name}"\n'
        for name in "ab"
    )
    assert read(one, two, "version = 2\n").config_path == "/b"


def test_odd_values_are_no_settings():
    assert read("plugins = 5\n", "disabled_plugins = 1\n", 'version = "x"\n').config_path == ""


def test_what_is_to_be_added_is_told_for_the_version_of_the_file():
    told = advice(read("version = 3\n"), "/etc/c.toml", "/certs")
    assert '[plugins."io.containerd.cri.v1.images".registry]' in told
    assert 'config_path = "/certs"' in told
    assert "io.containerd.grpc.v1.cri" in advice(read(), "/etc/c.toml", "/certs")
    assert "io.containerd.grpc.v1.cri" in advice(read("version = 2\n"), "/etc/c.toml", "/certs")


def test_nothing_is_told_where_it_is_set_or_the_plugin_is_off():
    assert advice(Registry("/a"), "f", "/certs") == ""
    assert advice(read('disabled_plugins = ["cri"]\n'), "f", "/certs") == ""


def test_mirrors_of_the_old_form_must_go():
    text = (
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]\n'
        'endpoint = ["https://a"]\n'
    )
    assert "must go" in advice(read(text), "f", "/certs")


MODERN = 'version = 3\n[plugins."io.containerd.cri.v1.images"'
LIST = f'{MODERN}.registry]\nconfig_path = "/a:/b"\n'


@pytest.mark.parametrize("text", [LIST, LIST.replace(":/b", ":")])
def test_a_list_of_directories_is_read_by_no_transfer_service(text):
    """Tried on 2.1.9: the whole list is one name there. The default of 2.2 is a list."""
    for reader, is_read in (((1, 6, 20), True), ((2, 0), True), ((2, 1), False), (None, False)):
        said = advice(read(text), "f", "/certs", reader)
        assert (said == "") is is_read
        assert is_read or 'config_path = "/a"' in said
    assert advice(read(LIST.replace(":/b", "")), "f", "/certs", (2, 1)) == ""


@pytest.mark.parametrize(
    "more",
    [
        f"{MODERN}]\nuse_local_image_pull = true\n",
        f"{MODERN}]\ndiscard_unpacked_layers = true\n",
        f"{MODERN}]\nimage_pull_with_sync_fs = true\n",
        f"{MODERN}]\nmax_concurrent_downloads = 5\n",
        f'{MODERN}.registry.configs."a".auth]\nusername = "u"\n',
    ],
)
def test_a_list_is_read_where_cri_pulls_itself(more):
    assert advice(read(LIST, more), "f", "/certs", (2, 1)) == ""
    assert advice(read(more), "f", "/certs", (2, 2)) == ""  # the default, a list
    assert advice(read(more), "f", "/certs", (2, 1)) != ""


def test_no_config_path_is_well_in_no_version_of_the_transfer_service():
    for reader in (None, (1, 7), (2, 1), (2, 2)):
        assert 'config_path = "/certs"' in advice(read("version = 3\n"), "f", "/certs", reader)


def test_settings_of_the_plugin_of_another_version_count_for_nothing():
    """containerd ignores them, though the name was right before an upgrade."""
    old = 'plugins."io.containerd.grpc.v1.cri".registry'
    assert read(f'version = 3\n[{old}]\nconfig_path = "/a"\n').config_path == ""
    assert read(LIST.replace("version = 3", "version = 2")).config_path == ""
