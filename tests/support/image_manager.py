"""Kubelet's image manager, as far as a node's images see it: pulls by policy, and image GC.

Follows Kubernetes' `pkg/kubelet/images`: `image_manager.go` (policies, a back-off for each pod and
image) and `image_gc_manager.go` (thresholds, minimum age, order of eviction, images in use and
pinned ones). Time is its own, and so is the disk's size: a test says how both go on.
"""

from dataclasses import dataclass, field

from airside.containerd.cri import Cri, CriImage
from airside.core.errors import ContainerdError
from support.kubelet import ImageNeverPullError, Policy
from support.waiting import LIMIT_SECONDS

_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS = 10.0, 300.0
_NEVER = float("-inf")


class ImagePullError(Exception):
    """kubelet's ErrImagePull: the runtime could not pull it."""


class ImagePullBackOffError(Exception):
    """kubelet's ErrImagePullBackOff: it failed lately, and is not tried now."""


@dataclass
class Clock:
    """Kubelet's time, in seconds."""

    now: float = 0.0

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class GcPolicy:
    """When images are collected: kubelet's defaults.

    `sandbox_image` is `--pod-infra-container-image`, which kubelets before 1.29 take as in use;
    later ones have none, and rely on pins.
    """

    high_percent: int = 85
    low_percent: int = 80
    min_age_seconds: float = 120.0
    max_age_seconds: float = 0.0
    sandbox_image: str = ""


@dataclass(frozen=True)
class Disk:
    """The image file system, in bytes: what is used by images is what CRI says they take."""

    capacity: int
    used_by_others: int = 0

    def available(self, images_bytes: int) -> int:
        return max(self.capacity - self.used_by_others - images_bytes, 0)


@dataclass
class _Record:
    """An image that was seen: when first, when last in use, and how CRI lists it."""

    first_detected: float
    last_used: float
    image: CriImage


@dataclass
class Collected:
    """What a collection did: removed images, bytes freed and wanted."""

    removed: list[CriImage] = field(default_factory=list)
    freed: int = 0
    wanted: int = 0
    errors: list[str] = field(default_factory=list)


class ImageManager:
    """Of one kubelet. `restart` forgets what only the process knows."""

    def __init__(self, cri: Cri, clock: Clock, policy: GcPolicy) -> None:
        self._cri, self._clock, self.policy = cri, clock, policy
        self.restart()

    def restart(self) -> None:
        """All images are new to it, none was used, no pull failed."""
        self._records: dict[str, _Record] = {}
        self._backoff: dict[tuple[str, str], tuple[float, float]] = {}
        self._began = self._clock.now

    # pulls

    def ensure(self, pod: str, image: str, policy: Policy) -> str:
        """Have the image for a pod; gives its ID.

        Raises ImageNeverPullError, ImagePullBackOffError, ImagePullError.
        """
        found = self._cri.image(image)
        if found is not None and policy != "Always":
            return found.id
        if policy == "Never":
            raise ImageNeverPullError(image)
        key = (pod, image)
        failed_at, seconds = self._backoff.get(key, (_NEVER, 0.0))
        if self._clock.now - failed_at < seconds:
            raise ImagePullBackOffError(image)
        try:
            pulled = self._cri.pull(image, seconds=LIMIT_SECONDS)
        except ContainerdError as exc:
            seconds = min(max(seconds * 2, _FIRST_BACKOFF_SECONDS), _LONGEST_BACKOFF_SECONDS)
            self._backoff[key] = self._clock.now, seconds
            raise ImagePullError(exc.message) from exc
        self._backoff.pop(key, None)
        return pulled

    # garbage collection

    def detect(self) -> set[str]:
        """Note all images and their use, as every five minutes; gives the IDs of those in use."""
        now = self._clock.now
        used = {container.image_id for container in self._cri.containers()}
        if self.policy.sandbox_image:
            sandbox = self._cri.image(self.policy.sandbox_image)
            used |= {sandbox.id} if sandbox is not None else set()
        images = self._cri.images()
        for image in images:
            record = self._records.setdefault(image.id, _Record(now, _NEVER, image))
            record.image = image
            if image.id in used:
                record.last_used = now
        for gone in self._records.keys() - {image.id for image in images}:
            del self._records[gone]
        return used

    def collect(self, disk: Disk) -> Collected:
        """What kubelet does every five minutes: too old ones, then down to the low threshold."""
        found = Collected()
        images = self._in_eviction_order()
        if self.policy.max_age_seconds and self._clock.now - self._began > (
            self.policy.max_age_seconds
        ):
            limit = self._clock.now - self.policy.max_age_seconds
            old = [record for record in images if record.last_used < limit]
            for record in old:
                self._remove(record, found)
            images = [record for record in images if record not in old]
        available = disk.available(sum(image.size_bytes for image in self._cri.images()))
        if 100 - available * 100 // disk.capacity >= self.policy.high_percent:
            low = disk.capacity * (100 - self.policy.low_percent) // 100
            self._free(low - available, images, found)
        return found

    def delete_unused(self) -> Collected:
        """What the eviction manager asks for when the node is under disk pressure."""
        found = Collected()
        self._free(None, self._in_eviction_order(), found)
        return found

    def _in_eviction_order(self) -> list[_Record]:
        """Neither images in use nor pinned ones; the longest unused first."""
        used = self.detect()
        free = [r for r in self._records.values() if r.image.id not in used and not r.image.pinned]
        return sorted(free, key=lambda record: (record.last_used, record.first_detected))

    def _free(self, wanted: int | None, images: list[_Record], found: Collected) -> None:
        found.wanted = wanted or 0
        now, freed = self._clock.now, 0
        for record in images:
            if record.last_used >= now or now - record.first_detected < self.policy.min_age_seconds:
                continue
            freed += self._remove(record, found)
            if wanted is not None and freed >= wanted:
                break

    def _remove(self, record: _Record, found: Collected) -> int:
        """Remove an image by its ID, with all its names. Goes on after errors."""
        try:
            self._cri.remove_image(record.image.id)
        except ContainerdError as exc:
            found.errors.append(exc.message)
            return 0
        self._records.pop(record.image.id, None)
        found.removed.append(record.image)
        found.freed += record.image.size_bytes
        return record.image.size_bytes
