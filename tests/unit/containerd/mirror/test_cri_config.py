import tomllib

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
