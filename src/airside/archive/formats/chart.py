"""Plans a packed Helm chart (`helm package`): it becomes the OCI artifact of `helm push`. Pure.

The layer is the file itself, byte for byte; the config is the chart's `Chart.yaml` as JSON, with
the fields that Helm knows, in Helm's order (HIPs 6). The name is `charts/NAME:VERSION`; Helm writes
the `+` of a version as `_` in tags.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from airside.archive.formats.plan import Facts, Plan, PlannedImage
from airside.core.errors import ArchiveFormatError, ReferenceInvalidError
from airside.oci.digest import digest_of
from airside.oci.model import OCI_MANIFEST, parse_document
from airside.oci.reference import Reference, parse_reference

HELM_CHART = "helm-chart"
CHART_CONFIG = "application/vnd.cncf.helm.config.v1+json"
CHART_CONTENT = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
CHART_YAML = "Chart.yaml"
MOST_YAML_BYTES = 256 << 10
"""Of a Chart.yaml; the parser is slow."""

_FIELDS = (
    *("name", "home", "sources", "version", "description", "keywords", "maintainers", "icon"),
    *("apiVersion", "condition", "tags", "appVersion", "deprecated", "annotations", "kubeVersion"),
    *("dependencies", "type"),
)
_MAINTAINER = ("name", "email", "url")
_DEPENDENCY = (
    *("name", "version", "repository", "condition", "tags", "enabled", "import-values", "alias"),
)
_BOOLEANS = {"deprecated", "enabled"}
_TRUE = {"true", "True", "TRUE"}
_ANNOTATIONS = {"name": "title", "version": "version", "description": "description", "home": "url"}
_VERSION = re.compile(r"v?[0-9]+(\.[0-9]+){0,2}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?\Z")


class _Loader(yaml.BaseLoader):  # type: ignore[misc] # PyYAML has no annotations
    """Reads every scalar as text, and refuses aliases, which could make much of little."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name)")
        return super().compose_node(parent, index)


def is_chart_member(name: str) -> bool:
    """Returns True for the `Chart.yaml` of a packed chart: in the only directory at the top."""
    return name.count("/") == 1 and name.endswith(f"/{CHART_YAML}")


def plan_chart(member: str, facts: Facts, chart_yaml: bytes) -> Plan:
    """Plan a chart. `member`: the ingested file. Raises ArchiveFormatError."""
    fields = _fields(_parsed(chart_yaml))
    reference = _reference(fields)
    config = _json(fields)
    titles = {
        f"org.opencontainers.image.{annotation}": fields[key]
        for key, annotation in sorted(_ANNOTATIONS.items(), key=lambda item: item[1])
        if fields.get(key)
    }
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _descriptor(CHART_CONFIG, str(digest_of(config)), len(config)),
            "layers": [_descriptor(CHART_CONTENT, str(facts.digest), facts.size_bytes)],
            "annotations": titles,
        }
    )
    document = parse_document(manifest, OCI_MANIFEST, "the chart's manifest")
    return Plan(
        format=HELM_CHART,
        images=(PlannedImage(document.digest, (reference,)),),
        documents={document.digest: document},
        blobs={facts.digest: member},
        made={digest_of(config): config},
    )


def _json(value: Mapping[str, Any]) -> bytes:
    """Returns the JSON that Go writes, so that the digests are those of `helm push`."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise ArchiveFormatError(f"the chart's {CHART_YAML} has text that is not Unicode") from exc


def _descriptor(media_type: str, digest: str, size_bytes: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size_bytes}


def _parsed(raw: bytes) -> Mapping[str, Any]:
    try:
        value = yaml.load(raw, Loader=_Loader)  # noqa: S506 - it makes texts, lists and maps only
    except (yaml.YAMLError, RecursionError, ValueError) as exc:
        reason = str(exc).replace("\n", " ")
        raise ArchiveFormatError(f"the chart's {CHART_YAML} cannot be read: {reason:.200}") from exc
    if not isinstance(value, dict):
        raise ArchiveFormatError(f"the chart's {CHART_YAML} is no map of fields")
    return value


def _fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields that Helm knows, in its order, without the empty ones."""
    found: dict[str, Any] = {}
    for name in _FIELDS:
        value = given.get(name)
        if name == "annotations" and isinstance(value, dict):
            value = {key: value[key] for key in sorted(value, key=str)}
        elif name == "maintainers":
            value = _each(value, _MAINTAINER)
        elif name == "dependencies":
            value = _each(value, _DEPENDENCY)
        elif name in _BOOLEANS:
            value = value in _TRUE
        if value:
            found[name] = value
    return found


def _each(value: Any, names: tuple[str, ...]) -> list[dict[str, Any]]:
    items = value if isinstance(value, list) else []
    return [
        {
            name: item[name] in _TRUE if name in _BOOLEANS else item[name]
            for name in names
            if item.get(name)
        }
        for item in items
        if isinstance(item, dict)
    ]


def _reference(fields: Mapping[str, Any]) -> Reference:
    """Returns the name of the artifact. Raises ArchiveFormatError."""
    name, version = fields.get("name"), fields.get("version")
    if not isinstance(name, str) or not isinstance(version, str):
        what = "name" if not isinstance(name, str) else "version"
        raise ArchiveFormatError(f"the chart's {CHART_YAML} has no {what}")
    if "/" in name:
        raise ArchiveFormatError(f"the chart's name is {name!r:.80}; Helm takes none with a slash")
    if not _VERSION.match(version):
        raise ArchiveFormatError(
            f"the chart's version is {version!r:.80}; a version is like 1.2.3 (semver.org)"
        )
    try:
        return parse_reference(f"charts/{name}:{version.replace('+', '_')}")
    except ReferenceInvalidError as exc:
        raise ArchiveFormatError(
            f"the chart {name!r:.80} {version:.80} makes no name of a repository: {exc.message}"
        ) from exc
