"""The alert rules and the dashboard fit the metrics that exist."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from airside.telemetry.metrics import BY_NAME
from support.promtool import promtool

ROOT = Path(__file__).parents[2] / "packaging"
RULES, RULE_TESTS = (ROOT / "prometheus" / f"airside.rules{end}.yaml" for end in ("", ".test"))
DASHBOARD = ROOT / "grafana" / "airside.json"
FOREIGN = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}
OF_TARGETS = {"instance", "job"}

SERIES = re.compile(r"\b((?:airside|process)_[a-z_]+|up)\b(?:\{([^}]*)\})?")
BY = re.compile(r"\bby \(([^)]*)\)")


def rules() -> list[dict]:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def panels() -> list[dict]:
    return [p for p in json.loads(DASHBOARD.read_text())["panels"] if p["type"] != "row"]


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for panel in panels() for target in panel["targets"])


def base_of(name: str) -> str:
    """The metric of a series of a histogram."""
    found = re.sub(r"_(bucket|sum|count)$", "", name)
    return found if found in BY_NAME and BY_NAME[found].kind == "histogram" else name


def wrong_with(expression: str) -> Iterator[str]:
    grouped = {label.strip() for found in BY.findall(expression) for label in found.split(",")}
    allowed = OF_TARGETS | {"le"}
    for name, matchers in SERIES.findall(expression):
        if name in FOREIGN:
            continue
        metric = BY_NAME.get(base_of(name))
        if metric is None:
            yield f"no metric {name}"
            continue
        if metric.kind == "histogram" and name == metric.name:
            yield f"{name} is a histogram"
        labels = set(re.findall(r"(\w+)[!=]", matchers))
        allowed |= set(metric.labels)
        yield from (
            f"{name} has no label {label}" for label in labels - OF_TARGETS - set(metric.labels)
        )
    yield from (f"nothing has a label {label} to group by" for label in grouped - allowed)


@pytest.mark.parametrize("expression", list(dict.fromkeys(expressions())))
def test_each_expression_names_metrics_and_labels_that_exist(expression):
    assert list(wrong_with(expression)) == []


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("airside_imagez > 0", "no metric airside_imagez"),
        ('airside_blobs{status="lost"}', "airside_blobs has no label status"),
        ("airside_gc_duration_seconds > 1", "airside_gc_duration_seconds is a histogram"),
        ("sum by (way) (airside_images)", "nothing has a label way to group by"),
    ],
)
def test_an_expression_that_fits_no_metric_is_found(expression, wrong):
    assert list(wrong_with(expression)) == [wrong]


def test_prometheus_takes_the_rules_and_their_tests_pass():
    assert f"{len(rules())} rules found" in promtool("check", "rules", RULES)
    assert "SUCCESS" in promtool("test", "rules", RULE_TESTS)


def test_each_alert_is_tried_firing_and_quiet():
    names = [test["name"] for test in yaml.safe_load(RULE_TESTS.read_text())["tests"]]
    for rule in rules():
        assert f"{rule['alert']} fires" in names
        assert f"{rule['alert']} is quiet" in names


def test_texts_of_alerts_use_only_labels_that_their_series_have():
    for rule in rules():
        found = {base_of(name) for name, _ in SERIES.findall(rule["expr"])} & set(BY_NAME)
        labels = OF_TARGETS.union(*(BY_NAME[name].labels for name in found))
        texts = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", texts)) <= labels


def test_the_dashboard_has_panels_side_by_side_and_nothing_from_elsewhere():
    text = DASHBOARD.read_text()
    assert "://" not in text
    every = json.loads(text)["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
