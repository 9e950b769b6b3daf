# ruff: noqa: E501 - a table of names
"""The section on names of docs/formats.md."""

NAMES = """## Names

Tools record the name of an image in up to three places, in several forms. What counts, by the first
row that fits (ADR 0032). None of these forms is called damaged.

| `io.containerd.image.name` | `org.opencontainers.image.ref.name` | `RepoTags` of `manifest.json` | Written by | The image's name |
| --- | --- | --- | --- | --- |
| `quay.io/t/app:1` | `1`, the same, `t/app:1`, empty | the same, or none | Docker, containerd, nerdctl, BuildKit; Hauler | `quay.io/t/app:1` |
| `quay.io/t/app@sha256:…` | `@sha256:…`, the same, empty | `quay.io/t/app:latest`, made up | containerd; regctl | `quay.io/t/app` by digest; another tag of `RepoTags` too |
| `quay.io/t/app:1@sha256:…` | `1@sha256:…` | `quay.io/t/app:1` | containerd, for kubelet | `quay.io/t/app:1` |
| a name with a digest of before a conversion | | | converters | its tag; without a tag, its repository with the digest that the image has; noted |
| `quay.io/t/app:1` | another tag, an image ID, a text | | several | the first; noted |
| `docker://`, `registry://`, `oci://`, `docker-daemon:`, `containers-storage:` and a name | | | skopeo, Helm | the name after the transport |
| `ocidir://helm3:3.8`, a path | `3.8` | `localhost/helm3:3.8` | regctl | that of `RepoTags`; without it, only a tag |
| none, or an image ID | `quay.io/t/app:1` | the same | podman, skopeo, Zarf | `quay.io/t/app:1` |
| none | `t/app:1` | `quay.io/t/app:1` | Hauler | the one with its registry, wherever it stands; alone, `docker.io/t/app:1` |
| none | `1` | `quay.io/t/app:1` | several | `quay.io/t/app:1`; alone, only a tag |
| none | none | `quay.io/t/app:1` | several | `quay.io/t/app:1`, of the image with that config |
| `quay.io/t/app:1` | | another name, far from the first | several | both; noted |

- **Damage.** Two records of one name that differ in a few bits only, at the same length, are what a
  flipped bit makes: neither name is created, the archive is `partial`, and the reason names both. So
  it is for a digest in a name that is nearly the image's, and for a key that is nearly one of these.
- **One name, several documents.** What can be run keeps the name: a manifest or an index, an index
  before a manifest that it lists. Its signatures, SBOMs and attestations, which bundlers give the
  same name, are reachable by digest in that repository, and as referrers if they have a subject; a
  note names them. So it is where they come in an archive of their own. Images for several platforms
  share a name; of two for one platform, the last counts.
- **Several tables.** An image that only `manifest.json` has, beside an index that lists others, is
  read too: by its manifest among the blobs, or made from its config and layers as in a
  docker-archive. The index counts where both give one name to two images. Where a tar has a table
  twice (`tar -A`, `tar -r`), the last counts, and images that only an earlier one lists are read too.
- **Several tars.** Tars that `cat` joined, plain or as members of one compression, are each read by
  themselves; of one name in two, the last counts. An archive in another compression that follows is
  not read: the state is `partial`.
- **`manifest.json` and `repositories`** of a docker-archive are compared in the same way; where they
  differ lawfully, `manifest.json` counts.
"""
