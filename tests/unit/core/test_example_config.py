from dataclasses import fields
from pathlib import Path

from airside.core.config import load_settings
from airside.core.settings import Settings

EXAMPLE = Path(__file__).parents[3] / "docs" / "config.example.toml"


def test_the_example_configuration_is_valid_and_shows_the_defaults():
    found = load_settings(file=EXAMPLE, environ={}, flags={}).settings
    defaults = Settings()
    for field in fields(Settings):
        if field.name != "images":
            assert getattr(found, field.name) == getattr(defaults, field.name), field.name
    assert found.images[0].path == Path("/var/lib/airside/images")
