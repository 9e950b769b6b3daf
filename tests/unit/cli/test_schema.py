"""The JSON Schemas that are shipped: valid, complete, strict, and one for each command."""

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from airside.cli.main import main
from airside.cli.schema import bundled, load_schema, schema_names
from support.schemas import check_output, name_of

DOCS = (Path(__file__).parents[3] / "docs/cli.md").read_text(encoding="utf-8")
NO_OUTPUT = {"run", "schema", "watch"}


def objects(value, where="#"):
    """Every schema of an object, with its place."""
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from objects(each, f"{where}/{number}")
    elif isinstance(value, dict):
        if value.get("type") == "object" and "properties" in value:
            yield where, value
        for key, each in value.items():
            yield from objects(each, f"{where}/{key}")


@pytest.mark.parametrize("name", [*schema_names(), "common"])
def test_a_schema_is_valid_and_refuses_keys_that_it_does_not_name(name):
    schema = load_schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:airside:schema:1:{name}"
    chosen = {"#/$defs/report"} if name == "explain" else set()  # its kinds are strict
    for where, each in objects(schema):
        assert where in chosen or "additionalProperties" in each, where


@pytest.mark.parametrize("name", schema_names())
def test_what_is_printed_of_a_schema_needs_no_other_file(name):
    whole = json.dumps(bundled(name))
    for target in re.findall(r'"\$ref": "urn:airside:schema:1:([a-z-]+)', whole):
        assert f'"$id": "urn:airside:schema:1:{target}"' in whole


def test_every_command_that_prints_json_has_a_schema():
    lines = re.findall(r"^`airside (.*) \[--json\]`$", DOCS, re.MULTILINE)
    documented = [re.match(r"[a-z]+( [a-z]+)?(?= |$)", line)[0] for line in lines]
    assert len(documented) > 12
    for command in documented:
        name = name_of([*command.split(), "--json"])
        assert name == command.replace(" ", "-"), command


def test_a_key_that_is_not_documented_is_refused_with_its_place():
    value = {"schema": 1, "dry_run": True, "blobs": 0, "freed_bytes": 0, "items": []}
    check_output("gc", value)
    with pytest.raises(AssertionError, match=r"schema gc .*'more' was unexpected"):
        check_output("gc", value | {"more": 1})


def test_an_error_is_described_by_the_schema_of_each_command():
    check_output("gc", {"schema": 1, "error": {"code": "x", "message": "y", "hint": "z"}})
    with pytest.raises(AssertionError):
        check_output("gc", {"schema": 1, "error": {"code": "x"}})


def test_the_command_prints_a_schema_by_the_words_of_a_command(capsys):
    assert main(["schema", "tag", "rollback"]) == 0
    assert json.loads(capsys.readouterr().out)["$id"] == "urn:airside:schema:1:tag-rollback"
    assert main(["schema"]) == 0
    assert capsys.readouterr().out.split() == schema_names()


def test_a_schema_that_there_is_not_is_wrong_usage_that_names_the_others(capsys):
    assert main(["schema", "frobnicate"]) == 2
    assert "tag-rollback" in capsys.readouterr().err
