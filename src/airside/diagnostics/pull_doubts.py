"""Why kubelet asks a registry for an image that the node has, and what to do: for people. Pure."""

from airside.containerd.kubelet_pulls import Doubt, PullPolicy

MIRROR = "airside mirror write --all"
_REASONS = {
    "policy": "",
    "record": "kubelet pulled the same image before, and has recorded no credentials for this name",
    "secret": "kubelet pulled the same image with a secret: pods without that secret are refused",
    "intent": "kubelet's own pull of this name runs or was broken off; if kubelet restarts now, it "
    "refuses the image for good",
    "damaged": "kubelet cannot read its record of this image",
}


def reason_of(doubt: Doubt, policy: PullPolicy) -> str:
    """Returns the reason, for one image or for several of one kind."""
    where = f" in {policy.file}" if policy.file is not None else " (the default)"
    cause = _REASONS[doubt.kind]
    return f"{cause}; the policy is {policy.name}{where}" if cause else f"by {policy.name}{where}"


def advice_for_doubt(doubt: Doubt, policy: PullPolicy) -> str:
    """Returns what to do where containerd does not ask Airside first."""
    files = " ".join(map(str, doubt.files[:3]))
    if len(doubt.files) > 3:
        files += f" and {len(doubt.files) - 3} more"
    if doubt.kind == "policy":
        other = "set it to NeverVerifyPreloadedImages, its default"
        if policy.allowlist or "llow" in policy.name:
            other += ", or add the repository to preloadedImagesVerificationAllowlist"
        return f"{other}; or let containerd ask Airside first ({MIRROR})"
    removal = f"stop kubelet, delete {files}, and start it"
    if doubt.kind != "damaged" and policy.asks_of_unknown:
        return f"let containerd ask Airside first ({MIRROR})"
    return f"let containerd ask Airside first ({MIRROR}); or {removal}"
