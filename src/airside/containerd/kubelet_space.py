"""The free space below which kubelet deletes images and evicts pods. Blocking.

Read from the files and flags of the host's kubelets (`kubelet_files`), which are searched for
words: they are YAML, JSON, or arguments, and differ between distributions. Where nothing is said,
kubelet's defaults count: it deletes unused images above 85 % of use, and evicts below 15 % free of
the file system of images and 10 % of its own. Never raises OSError.
"""

import re
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from airside.containerd.kubelet_files import kubelet_roots, kubelet_texts

KEPT_POINTS = 2.0
"""Airside deletes images so many points before kubelet does."""
_COLLECTS_PERCENT = 15.0
_EVICTS_PERCENT = 15.0
_OTHER_ROOTS = (
    "var/lib/containerd",
    "var/lib/rancher",
    "var/lib/k0s",
    "var/snap/microk8s/common",
)
_HIGH = re.compile(r"(?:imageGCHighThresholdPercent|image-gc-high-threshold)\W{1,6}(\d{1,3})\b")
_EVICTED = re.compile(
    r"(?:imagefs|nodefs)\.available[\"']?\s*[:<]\s*[\"']?(\d+(?:\.\d+)?)\s*(%|[KMGT]i?)?"
)
_RECLAIM = re.compile(
    r"[\"']?evictionMinimumReclaim[\"']?[ \t]*:[ \t]*"
    r"(?:\{[^}]*\}|(?:\n\s+[\"']?\w+\.\w+[\"']?\s*:.*)*)"
)
_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate("KMGT", start=1)}
_READ_AGAIN_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class KubeletSpace:
    """The thresholds of the host's kubelets, the highest of each. Percentages of a file system.

    `collects_percent`: below it kubelet deletes unused images. `evicts_percent`, `evicts_bytes`:
    below either it evicts pods. `is_found`: a file or a flag said one of them.
    """

    collects_percent: float = _COLLECTS_PERCENT
    evicts_percent: float = _EVICTS_PERCENT
    evicts_bytes: int = 0
    is_found: bool = False

    def acts_below(self, total_bytes: int) -> float:
        """Returns the percentage free below which kubelet deletes images or evicts pods."""
        evicts = 100 * self.evicts_bytes / total_bytes if total_bytes else 0.0
        return max(self.collects_percent, self.evicts_percent, evicts)

    def kept_percent(self, total_bytes: int) -> float:
        """Returns the percentage free below which Airside deletes what it may."""
        return min(self.acts_below(total_bytes) + KEPT_POINTS, 100.0)


def parse_space(texts: Iterable[str]) -> KubeletSpace:
    """Returns the highest thresholds in these texts; pure."""
    collects: list[float] = []
    evicts: list[float] = []
    sizes: list[int] = []
    for text in texts:
        bare = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        bare = _RECLAIM.sub("", bare)
        collects += [100.0 - int(found[1]) for found in _HIGH.finditer(bare)]
        for found in _EVICTED.finditer(bare):
            if found[2] == "%":
                evicts.append(float(found[1]))
            else:
                sizes.append(int(float(found[1]) * _UNITS.get(found[2] or "", 1)))
    has_evictions = bool(evicts or sizes)
    return KubeletSpace(
        max(collects, default=_COLLECTS_PERCENT),
        max(evicts, default=0.0 if has_evictions else _EVICTS_PERCENT),
        max(sizes, default=0),
        is_found=bool(collects) or has_evictions,
    )


def kubelet_space(root: Path, path: Path) -> KubeletSpace | None:
    """Returns the thresholds that count for the file system of `path`.

    None if no kubelet of the host looks at it. `root`: the host's root directory.
    """
    devices = set()
    roots = kubelet_roots(root)
    if not any(_device(each) is not None for each in roots):
        return None
    for each in (*roots, *(root / other for other in _OTHER_ROOTS)):
        devices.add(_device(each))
    device = _device(path)
    return parse_space(kubelet_texts(root)) if device is not None and device in devices else None


def _device(path: Path) -> int | None:
    with suppress(OSError):
        return path.stat().st_dev
    return None


class KubeletThresholds:
    """The percentage to keep free for kubelet, read again every five minutes. Thread-safe."""

    def __init__(self, root: Path, path: Path) -> None:
        self._root, self._path = root, path
        self._read_at = float("-inf")
        self._space: KubeletSpace | None = None
        self._lock = threading.Lock()

    def kept_percent(self, total_bytes: int) -> float:
        """Returns the percentage free below which Airside deletes images; 0: no kubelet looks."""
        with self._lock:
            now = time.monotonic()
            if now > self._read_at + _READ_AGAIN_SECONDS:
                self._space, self._read_at = kubelet_space(self._root, self._path), now
            return self._space.kept_percent(total_bytes) if self._space is not None else 0.0
