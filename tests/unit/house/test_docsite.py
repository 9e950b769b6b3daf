"""The tables of `docs/settings.md`, and what `docs/troubleshooting.md` explains."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from docsite.settings import default_text, tables

from airside.core.settings import Limits, RetentionRule, Settings, WatchedDirectory
from airside.core.upstream_config import Upstream
from airside.core.webhook_config import Webhook
from airside.diagnostics.verdict import SENTENCES


def test_every_setting_has_a_row_with_its_effect():
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|(?:[^|]|\\\|)*\| (.*) \|$", tables(), re.MULTILINE)
    named = {name for name, effect in rows if effect.strip()}
    tables_of = {"images", "retention_rules", "upstream", "webhooks", "limits"}
    for each in (Settings, WatchedDirectory, RetentionRule, Upstream, Webhook, Limits):
        missing = {field.name for field in fields(each)} - named - tables_of
        assert not missing, f"{each.__name__}: no row with an effect for {missing}"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (True, "true|false", "`true`"),
        ((), "hosts", "`[]`"),
        (("auto",), "", '`["auto"]`'),
        ("", "path", '`""`'),
        (64 * 1024**2, "bytes", '`"64MiB"`'),
        (0, "bytes/s", "`0`"),
        (1000, "connections", "`1000`"),
        (0.3, "seconds", "`0.3`"),
        (60.0, "seconds", "`60`"),
        (3600.0, "seconds", "`3600` (60 minutes)"),
        (30 * 86400.0, "seconds", "`2592000` (30 days)"),
        (None, "", ""),
    ],
)
def test_defaults_are_written_as_in_a_settings_file(value, unit, text):
    assert default_text(value, unit) == text


TROUBLES = Path(__file__).parents[3] / "docs/troubleshooting.md"


@pytest.mark.parametrize("code", SENTENCES)
def test_each_first_line_of_status_is_explained(code):
    found, _ = SENTENCES[code]
    longest = max(re.split(r"\{\w+\}", found), key=len).split(":")[0].strip()
    assert longest in TROUBLES.read_text(encoding="utf-8")
