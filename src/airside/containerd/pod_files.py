"""Which images kubelet wants, by its files: static pods, and pulls that run. Blocking.

Static pods are in the directory `staticPodPath` of kubelet's settings and in the usual ones of the
distributions. kubelet 1.33 and later keeps a record of each pull while it runs
(`image_manager/pulling`, KEP 2535). Files are searched for words, not parsed: a template or a file
that is being written must not matter. Never raises OSError; what cannot be read wants nothing.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from airside.containerd.kubelet_files import kubelet_roots, kubelet_settings
from airside.containerd.pull_records import read_record
from airside.core.errors import AirsideError
from airside.oci.reference import parse_reference

_MANIFESTS = (
    "etc/kubernetes/manifests",
    "etc/kubelet.d",
    "var/lib/rancher/k3s/agent/pod-manifests",
    "var/lib/rancher/rke2/agent/pod-manifests",
    "var/lib/k0s/manifests/static",
    "var/snap/microk8s/current/args/manifests",
)
_PULLING = "image_manager/pulling"
_PATH = re.compile(r"staticPodPath[\"']?\s*[:=]\s*[\"']?(/[^\s\"',}]+)")
_IMAGE = re.compile(r"[\"']?\bimage[\"']?[ \t]*:[ \t]*[\"']?([^\s\"',}#]+)")
_MOST_FILES = 500


def images_in_pod_files(root: Path) -> frozenset[str]:
    """Returns the full names (`name:tag`, `name@digest`) of the images, below a root."""
    texts = [*_static_pods(root), *_running_pulls(root)]
    return frozenset(name for text in texts for name in _full_names(text))


def _static_pods(root: Path) -> Iterator[str]:
    directories = [root / path for path in _MANIFESTS]
    for settings in kubelet_settings(root):
        found = _PATH.findall(_text(settings))
        directories += [root / path.lstrip("/") for path in found]
    for directory in dict.fromkeys(directories):
        for path in _files(directory):
            for line in _text(path).splitlines():
                if not line.lstrip().startswith("#"):
                    yield from _IMAGE.findall(line)


def _running_pulls(root: Path) -> Iterator[str]:
    for directory in kubelet_roots(root):
        for path in _files(directory / _PULLING):
            with suppress(ValueError, TypeError, KeyError, RecursionError):
                yield str(json.loads(_text(path))["image"])


def _files(directory: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(p for p in islice(directory.iterdir(), _MOST_FILES) if p.name[0] != ".")
    return []


def _text(path: Path) -> str:
    return (read_record(path) or b"").decode(errors="replace")


def _full_names(text: str) -> list[str]:
    with suppress(AirsideError):
        reference = parse_reference(text)
        name = str(reference.repository)
        tags = [f"{name}:{reference.tag}"] if reference.tag else []
        return [*tags, *([f"{name}@{reference.digest}"] if reference.digest else [])]
    return []
