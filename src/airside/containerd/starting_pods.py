"""Tells whether a pod of this node waits for an image. Pure.

CRI makes the sandbox of a pod before kubelet looks for the images of its containers, and says
nowhere which images these are.
"""

from collections.abc import Iterable

from airside.containerd.services.containers import ContainerRecord

_KIND, _POD = "io.cri-containerd.kind", "io.kubernetes.pod.uid"


def has_starting_pod(containers: Iterable[ContainerRecord]) -> bool:
    """Returns True if a pod has a sandbox, and none of its containers was created yet."""
    sandboxes, begun = set[str](), set[str]()
    for each in containers:
        pod = each.labels.get(_POD, "")
        (sandboxes if each.labels.get(_KIND) == "sandbox" else begun).add(pod)
    return bool(sandboxes - begun)
