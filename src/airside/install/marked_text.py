"""A first line that says that a file is ours, with a checksum of the rest. Pure.

    # airside install 3f2a91bc: `airside uninstall` deletes this file if the rest is unchanged.

By it a file that an operator changed is known, on hosts where nothing else was kept.
"""

import re
from hashlib import sha256

_MARK = re.compile(r"# airside install ([0-9a-f]{8}): [^\n]*\n")
_LINE = "# airside install {}: `airside uninstall` deletes this file if the rest is unchanged.\n"


def marked(body: str) -> str:
    """Returns the body below its mark."""
    return _LINE.format(_sum(body)) + body


def is_unchanged(text: str) -> bool:
    """Returns True if `marked` made this text."""
    found = _MARK.match(text)
    return found is not None and found[1] == _sum(text[found.end() :])


def _sum(body: str) -> str:
    return sha256(body.encode()).hexdigest()[:8]
