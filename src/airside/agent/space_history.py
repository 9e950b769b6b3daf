"""Records how the free space of the store's file system changes, for a forecast. Blocking."""

import json
import logging

from airside.agent.node import Node
from airside.core.errors import StoreError
from airside.diagnostics.space_forecast import SPACE_SAMPLES, Sample, add_sample, parse_samples

log = logging.getLogger("airside.agent")


def note_space(node: Node) -> bool:
    """Records the free space now, if the last record is old enough. Returns True if it did.

    A full disk or a damaged catalog is logged only: the next hour tries again.
    """
    try:
        space = node.garbage.space()
        new = Sample(node.clock(), space.free_bytes, space.total_bytes)
        samples = add_sample(parse_samples(node.catalog.meta(SPACE_SAMPLES)), new)
        if samples is None:
            return False
        node.catalog.set_meta({SPACE_SAMPLES: json.dumps(samples)})
    except StoreError as exc:
        log.warning("the free space is not recorded: %s; retrying in an hour", exc.message)
        return False
    return True
