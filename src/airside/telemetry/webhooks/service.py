"""The webhooks of the settings: checks them at the start, makes their followers."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

from airside.catalog.catalog import Catalog
from airside.catalog.identity import identity_of
from airside.core.errors import ConfigError
from airside.core.webhook_config import Webhook
from airside.ports.measures import WebhookMeter
from airside.telemetry.webhooks.follower import WebhookFollower
from airside.telemetry.webhooks.sender import check_files


def check_webhook_files(webhooks: Sequence[Webhook]) -> None:
    """Raises ConfigError if the secret or the authorities of one cannot be used. Blocking."""
    for webhook in webhooks:
        try:
            check_files(webhook)
        except (OSError, ValueError) as exc:
            raise ConfigError(
                f"webhook {webhook}: its secret {webhook.secret} or ca cannot be used: {exc}"
            ) from exc


def followers(
    webhooks: Sequence[Webhook], catalog: Catalog, meter: WebhookMeter, reads: Executor
) -> Iterator[WebhookFollower]:
    """Yields a follower for each webhook, to be run."""
    node = identity_of(catalog) if webhooks else ""
    for webhook in webhooks:
        yield WebhookFollower(webhook, catalog, node, meter, reads)
