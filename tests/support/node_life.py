"""A node's life in random steps: pods, kubelet's image manager, archives, restarts.

After each step a model says what must hold: pods whose image an archive here has can start, what
the agent says of its images is what containerd and CRI say, and nothing is published without a
cause. Time is kubelet's own: steps take minutes of it, and no wait.
"""

import itertools
import json
import logging
import random
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from airside.containerd.cri import CriImage
from airside.core.errors import ContainerdError
from airside.oci.reference import parse_reference
from support.agent import Agent
from support.containerd import Containerd
from support.image_manager import (
    Clock,
    Collected,
    Disk,
    GcPolicy,
    ImageManager,
    ImagePullBackOffError,
    ImagePullError,
)
from support.kubelet import ImageNeverPullError, Kubelet, Pod, Policy, Sandbox
from support.node_archives import NodeArchives, NodeImage
from support.node_truth import disagreements

log = logging.getLogger(__name__)

NAMES = ("docker.io/library/app:1", "docker.io/library/app:2", "docker.io/library/web:1")
_REPOSITORIES = tuple({name.rpartition(":")[0] for name in NAMES})
SLOTS = ("a", "b", "foreign")
MARKER = "docker.io/library/marker:1"
_LABELS = 4
_MOST_PODS = 4
_CLOSELY = 4
_DETECT_SECONDS = 300.0
_WHOLE_PASSES = 2
"""How many passes of the agent a pod that waits for its image may need."""

_STEPS = {
    "drop_some": 5,
    "remove_some": 2,
    "start_pod": 5,
    "restart_container": 4,
    "delete_pod": 2,
    "collect_images": 5,
    "delete_unused": 2,
    "stay_under_pressure": 2,
    "remove_by_hand": 1,
    "restart_kubelet": 1,
    "restart_agent": 1,
    "restart_containerd": 1,
    "collect_garbage": 1,
}
"""What may happen, and how often one of it rather than another."""

ABSENT = (ImageNeverPullError, ImagePullError, ImagePullBackOffError, ContainerdError)


@dataclass
class Wanted:
    """A pod as kubelet has it: what it asks for, and how far it got."""

    name: str
    reference: str
    policy: Policy
    sandbox: Sandbox | None = None
    pod: Pod | None = None
    dead: Pod | None = None
    attempt: int = 0


class NodeLife:
    """One containerd, one agent, one kubelet. `steps` tells what was done so far."""

    def __init__(
        self,
        seed: int,
        containerd: Containerd,
        agent: Agent,
        kubelet: Kubelet,
        beside: Path,
        *,
        digests: bool = True,
        leave_out: Collection[str] = (),
    ) -> None:
        self.random = random.Random(seed)
        self.containerd, self.agent, self.kubelet = containerd, agent, kubelet
        self.leave_out = leave_out
        self.clock = Clock()
        protected = containerd.options.sandbox_image if self.random.random() < 0.3 else ""
        self.manager = ImageManager(kubelet.cri, self.clock, GcPolicy(sandbox_image=protected))
        self.archives = NodeArchives(agent.watched, beside, digests=digests)
        self.pods: list[Wanted] = []
        self.steps: list[str] = [f"seed {seed}, kubelet's sandbox image {protected or 'unknown'}"]
        self.causes: Counter[str] = Counter()
        self._numbers, self._settled = itertools.count(), itertools.count()
        self._detected, self._judged = 0.0, 0
        self.mirrored = self.random.random() < 0.5
        self.pause = NodeImage(containerd.options.sandbox_image, "0")

    def begin(self) -> None:
        """Pause and one application, as a site's first archives."""
        self.mirror()
        self.drop("pause.tar", self.pause)
        for number, name in enumerate(NAMES):
            self.drop(f"{number}-a.tar", NodeImage(name, str(number)))
        self.judge()

    def live(self, steps: int) -> None:
        """Take so many steps, each judged."""
        kinds = {kind: often for kind, often in _STEPS.items() if kind not in self.leave_out}
        for _ in range(steps):
            [kind] = self.random.choices(list(kinds), list(kinds.values()))
            self.pass_time(self.random.choice([0, 10, 130, 300]))
            getattr(self, kind)()
            self.judge()

    def pass_time(self, seconds: float) -> None:
        """Kubelet notes the images and their use every five minutes, in the midst of it."""
        self.clock.advance(seconds / 2)
        if self.clock.now - self._detected >= _DETECT_SECONDS:
            self._detected = self.clock.now
            self.manager.detect()
        self.clock.advance(seconds / 2)

    # archives

    def drop_some(self) -> None:
        if self.random.random() < 0.1:
            label = str(self.random.randrange(_LABELS))
            self.drop("pause.tar", NodeImage(self.pause.name, label))
            return
        number, slot = self.random.randrange(len(NAMES)), self.random.choice(SLOTS)
        image = NodeImage(
            NAMES[number], str(self.random.randrange(_LABELS)), foreign=slot == "foreign"
        )
        self.drop(f"{number}-{slot}.tar", image)

    def drop(self, file: str, image: NodeImage) -> None:
        """It is imported when the agent has settled."""
        self.tell(f"drop {file}: {image.name} {image.label}{' foreign' * image.foreign}")
        self.archives.drop(file, image)
        self.causes[image.repository] += 2

    def remove_some(self) -> None:
        files = [file for file in self.archives.present if file not in ("pause.tar", "marker.tar")]
        if files:
            file = self.random.choice(files)
            self.tell(f"remove {file}")
            self.causes[self.archives.present[file].repository] += 2
            before = self.agent.now()
            path = self.archives.remove(file)
            self.agent.wait_for(
                lambda: self.agent.events("removed", path=path, after=before), what=f"{file} went"
            )

    # pods

    def start_pod(self) -> None:
        if len(self.pods) >= _MOST_PODS:
            self.delete_pod()
        own = [r for r in self.archives.references() if r.startswith(_REPOSITORIES)]
        reference = self.random.choice(own or [self.pause.name])
        policies: tuple[Policy, ...] = ("Never", "IfNotPresent")
        if self.mirrored:
            policies += ("Always",)
        self.start(reference, self.random.choice(policies))

    def start(self, reference: str, policy: Policy) -> None:
        """Have a pod of one container."""
        wanted = Wanted(f"pod-{next(self._numbers)}", reference, policy)
        self.tell(f"start {wanted.name}: {reference} {policy}")
        self.pods.append(wanted)
        self.have(wanted)

    def have(self, wanted: Wanted) -> None:
        """Start it, as kubelet tries again and again: after two whole passes at the latest."""
        required = wanted.reference in self.archives.references()
        for _ in range(_WHOLE_PASSES):
            try:
                self.sync(wanted)
            except ABSENT as exc:
                if not required:
                    self.tell(f"{wanted.name} cannot start, and nobody says that it must: {exc!r}")
                    return
                self.tell(f"{wanted.name} waits: {exc!r}")
                self.pass_time(300)
                self.settle()
            else:
                break
        else:
            self.sync(wanted)
        if required and wanted.pod is not None:
            expected = self.archives.references()[wanted.reference]
            assert wanted.pod.image_id == expected, (self.steps, wanted)

    def sync(self, wanted: Wanted) -> None:
        """One round of kubelet's loop for a pod: sandbox, then image, then container."""
        if wanted.sandbox is None:
            wanted.sandbox = self.kubelet.sandbox()
        if wanted.pod is None:
            image_id = self.manager.ensure(wanted.name, wanted.reference, wanted.policy)
            wanted.pod = self.kubelet.container(wanted.sandbox, image_id, attempt=wanted.attempt)
            wanted.attempt += 1

    def restart_container(self) -> None:
        """Its process ends; kubelet keeps the last dead container, and starts another."""
        running = [each for each in self.pods if each.pod is not None]
        if running:
            wanted = self.random.choice(running)
            assert wanted.pod is not None
            self.tell(f"restart the container of {wanted.name}: {wanted.reference}")
            self.kubelet.kill(wanted.pod)
            if wanted.dead is not None:
                self.kubelet.remove_container(wanted.dead)
            wanted.dead, wanted.pod = wanted.pod, None
            self.have(wanted)

    def delete_pod(self) -> None:
        if self.pods:
            wanted = self.pods.pop(self.random.randrange(len(self.pods)))
            self.tell(f"delete {wanted.name}")
            if wanted.sandbox is not None:
                self.kubelet.remove_sandbox(wanted.sandbox)

    # collections

    def collect_images(self) -> None:
        total = sum(image.size_bytes for image in self.kubelet.cri.images()) or 1
        others = int(total * self.random.uniform(7.0, 9.5))
        self.collected("image GC", self.manager.collect(Disk(10 * total, others)))

    def delete_unused(self) -> None:
        self.collected("disk pressure", self.manager.delete_unused())

    def stay_under_pressure(self) -> None:
        """Nothing helps, as when logs fill the disk: kubelet collects again and again."""
        for _ in range(self.random.randint(2, 4)):
            self.pass_time(300)
            self.delete_unused()
            self.judge()

    def collected(self, why: str, done: Collected) -> None:
        names = sorted({name for image in done.removed for name in (*image.tags, image.id[:15])})
        self.tell(f"{why} removed {names} for {done.wanted} bytes {done.errors or ''}")
        assert not done.errors, self.steps
        for image in done.removed:
            self.causes.update(repositories(image))

    def remove_by_hand(self) -> None:
        images = {tag: image for image in self.kubelet.cri.images() for tag in image.tags}
        images.pop(MARKER, None)
        if images:
            tag = self.random.choice(sorted(images))
            self.causes.update(repositories(images[tag]))
            self.tell(f"crictl rmi {tag}")
            self.kubelet.cri.remove_image(tag)

    def collect_garbage(self) -> None:
        self.tell("containerd collects garbage")
        self.containerd.collect()

    # restarts

    def restart_kubelet(self) -> None:
        self.tell("restart kubelet")
        self.manager.restart()

    def restart_agent(self) -> None:
        """By SIGTERM or SIGKILL; meanwhile kubelet may collect."""
        killed = self.random.random() < 0.5
        self.tell(f"restart the agent{' by kill -9' * killed}")
        self.count_published()
        (self.agent.kill if killed else self.agent.stop)()
        if self.random.random() < 0.5:
            self.collect_images()
        for archive in {*self.archives.present.values()} if killed else ():
            self.causes[archive.repository] += 1
        self.agent.start()
        self.mirror()

    def restart_containerd(self) -> None:
        self.tell("restart containerd")
        self.containerd.restart()
        self.kubelet.wait_ready()
        self.agent.wait_for(
            lambda: all(each["connected"] for each in self.agent.status()["runtimes"]),
            what="the agent is connected",
        )

    def mirror(self) -> None:
        """Our `hosts.toml`, or nobody who answers; the agent's port changes with each start."""
        address = self.agent.registry if self.mirrored else "127.0.0.1:1"
        file = self.containerd.hosts / "docker.io/hosts.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(
            f'server = "http://{address}"\n[host."http://{address}"]\n'
            '  capabilities = ["pull", "resolve"]\n'
        )

    # judging

    @property
    def looks_closely(self) -> bool:
        """Whether what costs more is judged too, now and then."""
        return self._judged % _CLOSELY == 0

    def tell(self, text: str) -> None:
        self.steps.append(f"{self.clock.now:.0f} s: {text}")
        log.info("%s", self.steps[-1])

    def settle(self) -> None:
        """Wait for a whole pass of the agent: one more image makes it look at everything."""
        image = NodeImage(MARKER, str(next(self._settled) % 2))
        self.archives.drop("marker.tar", image)
        self.causes[image.repository] += 1

        def published() -> bool:
            found = self.agent.images().get(MARKER, {"runtimes": ()})["runtimes"]
            return [(image.digest, "published")] == [(r["digest"], r["state"]) for r in found]

        self.agent.wait_for(published, what=f"{MARKER} is published")
        self.agent.wait_idle()

    def judge(self) -> None:
        """Raises AssertionError, with the steps, for what is still wrong after whole passes."""
        self._judged += 1
        for _ in range(_WHOLE_PASSES):
            self.settle()
            wrong = disagreements(self)
            if not wrong:
                break
        for wanted in self.pods:
            if wanted.pod is None and wanted.reference in self.archives.references():
                with suppress(*ABSENT):
                    self.sync(wanted)
                if wanted.pod is None:
                    wrong.append(f"{wanted} cannot start")
        published = self.count_published()
        wrong += [
            f"{repository} was published {count} times for {self.causes[repository]} causes"
            for repository, count in published.items()
            if count > self.causes[repository]
        ]
        assert not wrong, "\n".join(["", *self.steps, "wrong:", *wrong])

    def count_published(self) -> Counter[str]:
        """How often images of each repository were published, in all the agent's lives."""
        found: Counter[str] = Counter()
        for line in self.agent.log_path.read_text().splitlines():
            with suppress(ValueError):
                message = str(json.loads(line)["message"])
                name, _, rest = message.partition(": published to ")
                if rest:
                    found[str(parse_reference(name).repository)] += 1
        return found


def repositories(image: CriImage) -> list[str]:
    """Of each of its names: what may be published again when it was removed."""
    return [str(parse_reference(name).repository) for name in (*image.tags, *image.digests)]
