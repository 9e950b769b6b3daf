"""The command of each client that pulls from the embedded registry. Pure.

Each command works on the node itself as it is; it relies only on the command before it.
"""

import re
from dataclasses import dataclass

from airside.oci.platform import Platform
from airside.oci.reference import Reference

HELM = "application/vnd.cncf.helm."
_CERTS = "/etc/containerd/certs.d"
USUAL_ADDRESS = "127.0.0.1:5050"
"""The default address of the registry: `airside mirror write` needs no --address for it."""
_SCHEME = re.compile(r"(?:docker|oci|https?)://", re.ASCII)
_API = re.compile(
    r"https?://(?P<host>[^/]+)/v2/(?P<path>[^?]+)/manifests/(?P<end>[^/?]+)(?:\?ns=(?P<ns>[^&]+))?\Z"
)
_ANY = {"0.0.0.0": "127.0.0.1", "localhost": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared, not listened on


@dataclass(frozen=True, slots=True)
class Pulled:
    """The properties of an image that its pull commands depend on.

    `artifact_type` is empty for an image. `sparse`: some platforms of its index are absent, so not
    all can be copied; `platform` is then a present one. `other`: it is for other nodes than this
    one, so clients need `platform`. `files`: an artifact's layers have file names. `oci`: all its
    documents have OCI media types, which an OCI layout stores unchanged.
    """

    artifact_type: str = ""
    platform: Platform | None = None
    sparse: bool = False
    other: bool = False
    files: bool = False
    oci: bool = False


def reachable(address: str) -> str:
    """Returns the address at which a client on this node reaches a registry on `HOST:PORT`."""
    host, _, port = address.rpartition(":")
    return f"{_ANY.get(host.strip('[]'), host)}:{port}" if port else address


def registry_url(listen: str, *, has_tls: bool, public_url: str = "") -> str:
    """Returns the URL at which clients of this node ask the registry; "" if none listens.

    Over TLS that is the certificate's name, if `public_url` has it.
    """
    if listen and has_tls and public_url:
        return public_url.rstrip("/")
    return f"{'https' if has_tls else 'http'}://{reachable(listen)}" if listen else ""


def name_in(text: str) -> str:
    """Returns the image name in a URL of the API or in a name with a scheme such as `docker://`."""
    match = _API.match(text)
    if match:
        host, path, end, namespace = match.group("host", "path", "end", "ns")
        return f"{namespace or host}/{path}{'@' if ':' in end else ':'}{end}"
    return _SCHEME.sub("", text)


def served_names(name: Reference, address: str) -> list[str]:
    """Returns the names under which the registry at `HOST:PORT` serves it, the full name first."""
    repository = name.repository
    host = repository.host.replace(":", "_")
    end = f"@{name.digest}" if name.digest is not None else f":{name.tag}"
    whole = f"{address}/{host}/{repository.path}{end}" if host else ""
    short = f"{address}/{repository.path}{end}"
    return [text for text in (whole, short) if text]


def mirror_url(name: Reference, address: str) -> str:
    """Returns the manifest URL that containerd requests from its mirror."""
    end = str(name.digest) if name.digest is not None else name.tag
    query = f"?ns={name.repository.host}" if name.repository.host else ""
    return f"http://{address}/v2/{name.repository.path}/manifests/{end}{query}"


def pull_commands(
    name: Reference, address: str, pulled: Pulled, certs: str = ""
) -> list[tuple[str, str]]:
    """Returns (client, command) pairs; for an artifact only of clients that support its type.

    `certs`: containerd's directory of `hosts.toml` files, if not the usual one.
    """
    served = served_names(name, address)[0]
    last = [
        ("skopeo", _skopeo(name, served, pulled)),
        ("curl", f"curl -fsS -H 'Accept: */*' '{mirror_url(name, address)}'"),
    ]
    if pulled.artifact_type:
        return [*_artifact_commands(name, served, pulled), *last]
    return [*_image_commands(name, served, address, pulled, certs or _CERTS), *last]


def _skopeo(name: Reference, served: str, pulled: Pulled) -> str:
    """Copies all platforms, or one if others are absent."""
    flags, what = "", " --all"
    keep = " --preserve-digests" if pulled.oci else ""
    if pulled.sparse and pulled.platform is not None:
        one, what = pulled.platform, ""
        flags = f" --override-os {one.os} --override-arch {one.architecture}"
        flags += f" --override-variant {one.variant}" if one.variant else ""
    where = f"docker://{served} oci:DIR:{_end(name)}"
    return f"skopeo{flags} copy{what}{keep} --src-tls-verify=false {where}"


def _artifact_commands(name: Reference, served: str, pulled: Pulled) -> list[tuple[str, str]]:
    """Pulls files under their names if they have names, else the whole artifact as a layout."""
    oras = f"oras copy --from-plain-http {served} --to-oci-layout DIR:{_end(name)}"
    if pulled.files:
        oras = f"oras pull --plain-http {served}"
    if not pulled.artifact_type.startswith(HELM) or not name.tag:
        return [("oras", oras)]
    chart = served.rpartition(":")[0]
    version = name.tag.replace("_", "+")  # helm writes `+` as `_`, since a tag has no `+`
    return [("helm", f"helm pull --plain-http oci://{chart} --version {version}"), ("oras", oras)]


def _image_commands(
    name: Reference, served: str, address: str, pulled: Pulled, certs: str
) -> list[tuple[str, str]]:
    host = name.repository.host or address
    mirrored = str(name) if name.repository.host else served
    which = f" --platform {pulled.platform}" if pulled.other and pulled.platform else ""
    where = "" if address == USUAL_ADDRESS else f" --address {address}"
    where += "" if certs == _CERTS else f" --certs-dir {certs}"
    found = [("containerd", f"airside mirror write --registry {host}{where}")]
    if not which:  # CRI pulls only the node's platform
        found.append(("crictl", f"crictl pull {mirrored}"))
    ctr = f"ctr -n k8s.io images pull --hosts-dir {certs}{which} {mirrored}"
    found += [("ctr", ctr), ("nerdctl", f"nerdctl --insecure-registry pull{which} {served}")]
    if not address.startswith(("127.", "[::1]")):
        setting = f'with this in /etc/docker/daemon.json: {{"insecure-registries": ["{address}"]}}'
        found.append(("docker", setting))
    return [
        *found,
        ("docker", f"docker pull{which} {served}"),
        ("podman", f"podman pull --tls-verify=false{which} {served}"),
    ]


def _end(name: Reference) -> str:
    return name.tag or "latest"
