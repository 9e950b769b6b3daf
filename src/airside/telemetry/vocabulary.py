"""The values that labels of metrics may have. Pure.

A label whose values come from outside has a vocabulary here, and what is not of it counts as
`OTHER`. So the number of time series does not depend on what strangers send.
"""

from airside.core import errors

OTHER, NONE = "other", "none"

RESULTS = (
    *("imported", "partial", "rejected", "incomplete", "failed", "unreadable"),
    *("waiting", "ignored", "unchanged"),
)
"""Results of an import, as `airside archives` has them."""
SUCCESSES = frozenset({"imported", "partial"})
STATES = (*RESULTS[:-1], "settled", "queued", "importing", "removed")
"""States of an archive."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
WAYS = ("link", "copy", "stream", "held")
"""How a blob came into a container runtime."""
KINDS = ("blob", "manifest", "mount")
PUBLICATIONS = (
    *("published", "waiting", "failed", "not-for-node", "artifact", "incomplete", "conflict"),
    "left",
)
"""States of a tag in a container runtime (`containerd/publisher.py`)."""


def _codes(cls: type[errors.AirsideError]) -> set[str]:
    return {cls.code}.union(*(_codes(each) for each in cls.__subclasses__()))


REASONS = frozenset(_codes(errors.AirsideError))
"""The codes of all errors, as `--json` has them."""
_FIRST_CODE, _LAST_CODE = 100, 599


def word(text: str, known: frozenset[str] | tuple[str, ...]) -> str:
    """Returns the text if it is of the vocabulary, else `OTHER`."""
    return text if text in known else OTHER


def reason(code: str) -> str:
    """Returns the label for the code of an error; "" is no error."""
    return word(code, REASONS) if code else NONE


def status(code: int) -> str:
    """Returns the label for an HTTP status."""
    return str(code) if _FIRST_CODE <= code <= _LAST_CODE else OTHER
