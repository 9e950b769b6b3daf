import json
import math

import jsonschema
import pytest

from airside.catalog.model import EventRow
from airside.cli.schema import bundled
from airside.core.config import load_settings
from airside.core.errors import ConfigError
from airside.core.webhook_config import EVENT_GROUPS, parse_webhook
from airside.telemetry.webhooks.attempts import (
    KEEP_SECONDS,
    LONGEST_SECONDS,
    MOST_REFUSALS,
    Attempts,
)
from airside.telemetry.webhooks.messages import message_of
from airside.telemetry.webhooks.signing import parse_keys, signed_headers

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OWN = {"url": "https://hooks.example/x", "secret": "/etc/key"}


def test_a_message_is_signed_as_standard_webhooks_say():
    body = b'{"test": 2432232314}'
    headers = signed_headers(parse_keys(KEY), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_several_keys_give_several_signatures():
    keys = parse_keys(f"{KEY}\n\n  a plain text is a key too\n")
    assert keys[1] == b"a plain text is a key too"
    assert len(signed_headers(keys, "1", 1, b"")["webhook-signature"].split()) == 2


@pytest.mark.parametrize("text", ["", "\n", "hunter2", "whsec_????", "whsec_c2hvcnQ="])
def test_a_key_that_is_none_is_refused_without_showing_it(text):
    with pytest.raises(ValueError, match=r"key|base64") as caught:
        parse_keys(text)
    assert text.strip() == "" or text not in str(caught.value)


def test_a_message_is_a_cloud_event_as_its_schema_says():
    event = EventRow(7, 0.0, "rejected", "/i/a.tar", "", "", 'name "<b>" is damaged')
    for detail in (event.detail, '{"runtime": "/run/c.sock"}', "{no json", "x" * 10_000):
        row = EventRow(7, 0.0, "rejected", "/i/a.tar", "", "", detail)
        said = json.loads(message_of("airside-1", "node1", row))
        jsonschema.validate(said, bundled("webhook"))
    assert said["type"] == "io.airside.rejected"
    assert said["id"] == "airside-1-7"
    assert said["subject"] == "/i/a.tar"
    assert len(said["data"]["detail"]) < 9_000


def test_the_delay_doubles_is_spread_and_bounded():
    attempts = Attempts(0.0)
    delays = []
    for _ in range(12):
        attempts.failed(None)
        delays.append(attempts.delay_seconds(1.0))
    assert delays[:4] == [1.0, 2.0, 4.0, 8.0]
    assert delays[-1] == LONGEST_SECONDS
    assert attempts.delay_seconds(0.0) == LONGEST_SECONDS / 2
    assert attempts.delay_seconds(0.0, retry_after=1000.0) == 1000.0
    assert attempts.delay_seconds(0.0, retry_after=math.inf) == KEEP_SECONDS


def test_a_message_is_given_up_after_a_day_or_when_it_is_refused_for_what_it_is():
    patient, refused = Attempts(0.0), Attempts(0.0)
    for _ in range(100):
        patient.failed(404)
        patient.failed(500)
    assert not patient.is_over(KEEP_SECONDS - 1)
    assert patient.is_over(KEEP_SECONDS)
    for _ in range(MOST_REFUSALS):
        assert not refused.is_over(1.0)
        refused.failed(413)
    assert refused.is_over(1.0)


def test_a_webhook_has_sensible_defaults():
    found = parse_webhook(OWN, "test")
    assert found.name == "hooks.example"
    assert found.kinds >= {"imported", "rejected", "tag-moved", "low-space", "runtime-away"}
    assert not found.kinds & EVENT_GROUPS["push"]


@pytest.mark.parametrize(
    "table",
    [
        "https://hooks.example",
        {"url": "https://hooks.example"},
        {**OWN, "url": "ftp://hooks.example"},
        {**OWN, "url": "https://ann:secret@hooks.example"},
        {**OWN, "url": "https://[::1"},
        {**OWN, "url": 7},
        {**OWN, "events": ["everything"]},
        {**OWN, "events": []},
        {**OWN, "events": "import"},
        {**OWN, "name": "Not A Name"},
        {**OWN, "proxy": "socks://x"},
        {**OWN, "ca": 1},
        {**OWN, "colour": "red"},
    ],
)
def test_a_wrong_table_is_refused(table):
    with pytest.raises(ConfigError) as caught:
        parse_webhook(table, "file x: webhooks")
    assert "ann:secret" not in caught.value.message


def test_two_webhooks_need_two_names(tmp_path):
    file = tmp_path / "airside.toml"
    table = '[[webhooks]]\nurl = "https://hooks.example"\nsecret = "/k"\n'
    file.write_text(table)
    [found] = load_settings(file=file, environ={}, flags={}).settings.webhooks
    assert str(found) == "hooks.example"
    file.write_text(table * 2)
    with pytest.raises(ConfigError, match="one name"):
        load_settings(file=file, environ={}, flags={})
