import pytest

from airside.containerd.kubelet_files import has_kubelet


@pytest.mark.parametrize("sign", ["var/lib/kubelet", "etc/rancher/k3s", "var/lib/k0s"])
def test_a_directory_of_a_kubelet_shows_it(tmp_path, sign):
    assert not has_kubelet(tmp_path)
    (tmp_path / sign).mkdir(parents=True)
    assert has_kubelet(tmp_path)


def test_what_cannot_be_looked_at_shows_none(tmp_path):
    assert not has_kubelet(tmp_path / ("x" * 300))  # the name is too long
