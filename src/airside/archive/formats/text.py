"""Decodes texts beside archives: UTF-8, or UTF-16 as PowerShell writes it. Pure."""

import codecs

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""The first bytes of a text in UTF-16."""


def decode_text(data: bytes) -> str | None:
    """Returns the text without its byte order mark; None for bytes that are no text.

    Bytes that are not UTF-8 are replaced: the text may be in a code page.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            text = data[len(mark) :].decode(encoding, "replace")
            break
    else:
        text = data.decode("utf-8", "replace")
    return None if "\0" in text else text
