"""Unpacks the images of a family once: `python -m support.unpack_family …`, for a fault to kill.

Arguments: containerd's socket, its content directory, the snapshotter, the namespace, how many.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

from support.snapshots import rootfs
from support.unpacking import LEASE, family, namespace_of


def main() -> None:
    socket, content, snapshotter, namespace, count = sys.argv[1:]
    containerd = SimpleNamespace(
        socket=socket, content_root=Path(content), options=SimpleNamespace(snapshotter=snapshotter)
    )
    with namespace_of(containerd, namespace, fresh=False) as node, node.unpacker() as unpacker:
        images = [rootfs(image) for image in family(int(count))]
        unpacker.unpack_all(images, lease=LEASE, stop=lambda: False)


if __name__ == "__main__":
    main()
