#!/usr/bin/env python3
"""Writes the manifests of `packaging/kustomize` and `packaging/k3s` from the Helm chart.

The chart is the source of all of them. `packaging/kustomize/base` is the chart with its default
values, without Helm's own labels; each directory beside it is a JSON patch (RFC 6902) of the base
for one of the chart's `values/*.yaml`. `packaging/k3s/airside.yaml` is the manifest for K3s's
auto-deploy directory. `--check` writes nothing and fails if a file differs. Needs
`helm-python-sdk`.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from helm_python.chart import Chart

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "packaging/helm/airside"
KUSTOMIZE = ROOT / "packaging/kustomize"
AUTO_DEPLOY = ROOT / "packaging/k3s/airside.yaml"
DISTRIBUTIONS = ("k0s", "k3s", "microk8s", "rke2")
HELM_LABELS = ("app.kubernetes.io/managed-by", "helm.sh/chart")
_ORDER = ("Namespace", "ServiceAccount", "ConfigMap", "NetworkPolicy", "PodMonitor", "DaemonSet")
_HEAD = "# Made by `make manifests` from packaging/helm/airside{}. Change it there.\n"
_KUSTOMIZATION = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
Manifest = dict[str, Any]


class _Dumper(yaml.SafeDumper):  # type: ignore[misc] # PyYAML has no annotations
    """Writes texts of several lines as blocks, and lists indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - PyYAML's signature
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, value: str) -> Any:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def dump(*documents: Any) -> str:
    text: str = yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, width=1000, explicit_start=len(documents) > 1
    )
    return text


def render(values: Mapping[str, Any], *, name: str = "airside") -> list[Manifest]:
    """Returns the objects of the chart with these values, in the order in which to apply them."""
    with Chart.load(CHART) as chart:
        texts = chart.render(dict(values), name=name, namespace="default")
    found = [
        document
        for path, text in texts.items()
        if not path.endswith("NOTES.txt")
        for document in yaml.safe_load_all(text)
        if document
    ]
    return sorted(found, key=lambda o: (_ORDER.index(o["kind"]), o["metadata"]["name"]))


def values_of(distribution: str) -> Manifest:
    """Returns the values of a file of the chart; none for the base."""
    if distribution == "base":
        return {}
    loaded: Manifest = yaml.safe_load((CHART / f"values/{distribution}.yaml").read_text())
    return loaded


def without_helm(value: Any) -> Any:
    """Returns an object without the labels that only Helm gives."""
    if isinstance(value, dict):
        return {k: without_helm(v) for k, v in value.items() if k not in HELM_LABELS}
    return [without_helm(each) for each in value] if isinstance(value, list) else value


def patch(before: Any, after: Any, path: str = "") -> Iterator[Manifest]:
    """Yields the operations that make `after` of `before`. Lists of another length are replaced."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(k for k in after if k not in before)]:
            place = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in after:
                yield {"op": "remove", "path": place}
            elif key not in before:
                yield {"op": "add", "path": place, "value": after[key]}
            else:
                yield from patch(before[key], after[key], place)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from patch(old, new, f"{path}/{number}")
    else:
        yield {"op": "replace", "path": path, "value": after}


def kustomize_files() -> dict[Path, str]:
    """Returns the text of each file of the Kustomize directories."""
    base = without_helm(render({}))
    files = {KUSTOMIZE / "base" / _name(each): _HEAD.format("") + dump(each) for each in base}
    names = [_name(each) for each in base]
    files[KUSTOMIZE / "base/kustomization.yaml"] = dump({**_KUSTOMIZATION, "resources": names})
    monitor = [
        each
        for each in without_helm(render({"metrics": {"podMonitor": {"create": True}}}))
        if each["kind"] == "PodMonitor"
    ]
    files[KUSTOMIZE / "podmonitor/podmonitor.yaml"] = _HEAD.format("") + dump(*monitor)
    files[KUSTOMIZE / "podmonitor/kustomization.yaml"] = dump(
        {**_KUSTOMIZATION, "resources": ["podmonitor.yaml"]}
    )
    for distribution in DISTRIBUTIONS:
        files |= _overlay(distribution, base)
    return files


def _overlay(distribution: str, base: list[Manifest]) -> dict[Path, str]:
    files, patches = {}, []
    head = _HEAD.format(f" with values/{distribution}.yaml")
    changed = without_helm(render(values_of(distribution)))
    for before, after in zip(base, changed, strict=True):
        operations = list(patch(before, after))
        if operations:
            name = f"patch-{_name(after)}"
            files[KUSTOMIZE / distribution / name] = head + dump(operations)
            target = {"kind": after["kind"], "name": after["metadata"]["name"]}
            patches.append({"path": name, "target": target})
    files[KUSTOMIZE / distribution / "kustomization.yaml"] = dump(
        {**_KUSTOMIZATION, "resources": ["../base"], "patches": patches}
    )
    return files


def _name(manifest: Manifest) -> str:
    kind, name = manifest["kind"].lower(), manifest["metadata"]["name"]
    return f"{kind}{name.removeprefix('airside')}.yaml" if kind != "namespace" else "namespace.yaml"


def auto_deploy() -> str:
    """Returns the manifest for `/var/lib/rancher/k3s/server/manifests`."""
    objects = without_helm(render(values_of("k3s")))
    return _HEAD.format(" with values/k3s.yaml") + dump(*objects)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail on a difference")
    only_check = parser.parse_args().check
    wanted = {**kustomize_files(), AUTO_DEPLOY: auto_deploy()}
    stale = [p for p in (*KUSTOMIZE.rglob("*.yaml"), AUTO_DEPLOY) if p not in wanted]
    wrong = [p for p, text in wanted.items() if not p.exists() or p.read_text() != text]
    for path in [*wrong, *stale]:
        print(f"{'differs' if only_check else 'written'}: {path.relative_to(ROOT)}")
    if only_check:
        return 1 if wrong or stale else 0
    for path in wrong:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
    for path in stale:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
