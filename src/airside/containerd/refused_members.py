"""Finds the member of a layer for which containerd refused to unpack it.

containerd's answer has a number, "unhandled tar header type 83", and neither the member nor what to
do. Asked only after a refusal: the layer is read once more.
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from airside.archive.layer_check import LayerCheck
from airside.containerd.layer_footprint import OpenBlob, OpenTar
from airside.core.errors import AirsideError, StoppedError
from airside.core.settings import CHUNK_BYTES
from airside.oci.model import Descriptor

Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class RefusedMembers:
    """Reads layers of the store. Thread-safe."""

    open_blob: OpenBlob
    open_tar: OpenTar

    def explain(self, layer: Descriptor, stop: Stop) -> str:
        """Returns which member is refused, and what to do; "" if none is found.

        Raises StoppedError.
        """
        check = LayerCheck()
        try:
            chunks = self.open_tar(layer, stop)
            if chunks is None:
                with self.open_blob(layer.digest) as file:
                    _feed(check, iter(partial(file.read, CHUNK_BYTES), b""), stop)
            else:
                with contextlib.closing(chunks):
                    _feed(check, chunks, stop)
        except StoppedError:
            raise
        except (AirsideError, OSError):
            return ""
        return str(check.found[0]) if check.found else ""


def _feed(check: LayerCheck, chunks: Iterable[bytes], stop: Stop) -> None:
    for chunk in chunks:
        if stop():
            raise StoppedError("stopped while a layer was read")
        check.feed(chunk)
        if check.ended or check.found:
            return
