"""How each client pulls from the embedded registry: commands for people. Pure."""

from airside.oci.reference import Reference

HELM = "application/vnd.cncf.helm."


def served_names(name: Reference, address: str) -> list[str]:
    """What the registry at `HOST:PORT` serves a name as, the whole name first."""
    repository = name.repository
    host = repository.host.replace(":", "_")
    end = f"@{name.digest}" if name.digest is not None else f":{name.tag}"
    whole = f"{address}/{host}/{repository.path}{end}" if host else ""
    short = f"{address}/{repository.path}{end}"
    return [text for text in (whole, short) if text]


def mirror_url(name: Reference, address: str) -> str:
    """What containerd asks its mirror for."""
    end = str(name.digest) if name.digest is not None else name.tag
    query = f"?ns={name.repository.host}" if name.repository.host else ""
    return f"http://{address}/v2/{name.repository.path}/manifests/{end}{query}"


def pull_commands(name: Reference, address: str, artifact_type: str) -> list[tuple[str, str]]:
    """(client, command) by which this is pulled; for an artifact those that know what it is."""
    served = served_names(name, address)[0]
    skopeo = f"skopeo copy --all --src-tls-verify=false docker://{served} oci:DIR:{_end(name)}"
    curl = f"curl -fsS -H 'Accept: */*' '{mirror_url(name, address)}'"
    if artifact_type:
        found = [("oras", f"oras pull --plain-http {served}")]
        if artifact_type.startswith(HELM):
            chart = served.rpartition(":")[0] or served
            found.insert(0, ("helm", f"helm pull --plain-http oci://{chart} --version {name.tag}"))
        return [*found, ("skopeo", skopeo), ("curl", curl)]
    hosts = f"/etc/containerd/certs.d/{name.repository.host or address}/hosts.toml"
    return [
        ("containerd", f'with this in {hosts}: [host."http://{address}"]'),
        ("crictl", f"crictl pull {name}"),
        ("ctr", f"ctr -n k8s.io images pull --hosts-dir /etc/containerd/certs.d {name}"),
        ("nerdctl", f"nerdctl --insecure-registry pull {served}"),
        ("docker", f"docker pull {served}"),
        ("podman", f"podman pull --tls-verify=false {served}"),
        ("skopeo", skopeo),
        ("curl", curl),
    ]


def _end(name: Reference) -> str:
    return name.tag or "latest"
