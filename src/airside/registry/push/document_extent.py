"""Refuses a pushed document with more below it than an archive may have. Blocking."""

from airside.catalog.extent import Extent
from airside.core.errors import TooLargeError
from airside.core.settings import Limits
from airside.oci.model import Document, Index


def check_extent(document: Document, extent: Extent, limits: Limits) -> None:
    """Raises TooLargeError (`limits.descriptors`, `limits.nesting`). `extent`: what is recorded."""
    listed, levels = len(document.children), 0
    if isinstance(document.content, Index):
        below = dict.fromkeys(child.digest for child in document.children)
        listed += extent.descriptors(below, max(limits.descriptors - listed, 0))
        levels = extent.levels(below, limits.nesting)
    for limit, found in (("descriptors", listed), ("nesting", levels)):
        most = getattr(limits, limit)
        if found > most:
            raise TooLargeError(
                f"the manifest, with what is below it, has more {limit} than limits.{limit} "
                f"allows ({most})",
                expected=most,
            )
