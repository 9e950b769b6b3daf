"""What else a layout or docker-archive may hold: artifacts, absent and foreign parts, links."""

import functools
import json
import os
from pathlib import Path
from typing import Any

from airside.oci.model import OCI_INDEX, OCI_MANIFEST
from support.formats.compression_rows import SMALL, saved, through
from support.formats.row import Make, Row, name_of
from support.formats.sources import Layout, one, packed, push, saved_pair, several_platforms, tarred
from support.formats.workshop import Workshop
from support.images import (
    TestLayer,
    docker_archive,
    image_of,
    oci_archive,
    random_image,
    random_layer,
)
from support.odd_images import ODD, write_layout
from support.skopeo import run, skopeo

# Artifacts


def helm_chart(shop: Workshop, directory: Path, key: str) -> Path:
    """As `helm push` writes it: the chart's metadata is the config."""
    (directory / "chart.json").write_text(json.dumps({"name": key, "version": "1.0.0"}))
    (directory / "Chart.yaml").write_text(f"name: {key}\nversion: 1.0.0\n")
    run("tar", "-C", directory, "-czf", directory / "chart.tgz", "Chart.yaml")
    helm = "application/vnd.cncf.helm"
    return _oras_push(
        shop,
        directory,
        key,
        "--config",
        f"chart.json:{helm}.config.v1+json",
        f"chart.tgz:{helm}.chart.content.v1.tar+gzip",
    )


def artifact(shop: Workshop, directory: Path, key: str) -> Path:
    """With an SBOM that refers to it."""
    (directory / "model.bin").write_text(key * 100)
    (directory / "sbom.json").write_text(json.dumps({"name": key * 20}))
    oras, layout = shop.program("trixie", "oras"), f"{directory / 'layout'}:{key}"
    _oras_push(shop, directory, key, "--artifact-type=application/vnd.example.model", "model.bin")
    sbom = ["--artifact-type=application/spdx+json", "sbom.json:application/json"]
    run("env", "-C", directory, oras, "attach", "--oci-layout", layout, *sbom)
    return packed(directory / "layout")


def _oras_push(shop: Workshop, directory: Path, key: str, *words: str) -> Path:
    oras, layout = shop.program("trixie", "oras"), f"{directory / 'layout'}:{key}"
    run("env", "-C", directory, oras, "push", "--oci-layout", layout, *words)
    return packed(directory / "layout")


def cosign(shop: Workshop, directory: Path, key: str) -> Path:
    """An image and its signature, as `cosign save` writes them."""
    name = push(shop, one(directory, key, compression="gzip"), key)
    program = shop.program("trixie", "cosign")
    words = ["env", "-C", directory, f"HOME={directory}", "COSIGN_PASSWORD=", program]
    run(*words, "generate-key-pair")
    quiet = ["--allow-insecure-registry", "--tlog-upload=false", "--yes"]
    run(*words, "sign", "--key=cosign.key", *quiet, name)
    run(*words, "save", "--allow-insecure-registry", "--dir=layout", name)
    return directory / "layout"


# Indexes


def nested(shop: Workshop, directory: Path, key: str) -> Path:
    """An index within an index, which `crane index append` makes without flattening."""
    crane = shop.program("forky", "crane")
    inner = push(shop, several_platforms(directory, key), key)
    outer = f"{inner.rpartition(':')[0]}:outer"
    run(crane, "index", "append", "--flatten=false", "--manifest", inner, "--tag", outer)
    run(crane, "pull", "--format=oci", outer, directory / "layout")
    return packed(directory / "layout")


def foreign_layer(_: Workshop, directory: Path, key: str) -> Path:
    """As images of Windows have it: a layer that is to be fetched from elsewhere."""
    made, absent = Layout(directory / "layout"), f"sha256:{key.encode().hex():0<64.64}"
    gone = {
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "digest": absent,
        "size": 1000,
        "urls": ["https://example.com/layer"],
    }
    layer = random_layer(key, compression="gzip")
    diff_ids = [str(layer.diff_id), absent]
    config = {"os": "windows", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    image = image_of([layer], config=config)
    return packed(made.close(made.image(image, gone), name=name_of(key)))


def no_platform(_: Workshop, directory: Path, key: str) -> Path:
    """Two images of which the second says no platform: artifacts with an image's manifest."""
    made = Layout(directory / "layout")
    empty = made.add(b"{}", "application/vnd.oci.empty.v1+json")
    layer = made.add(key.encode() * 50, "application/vnd.example.data")
    other = made.document(OCI_MANIFEST, config=empty, layers=[layer])
    index = made.document(OCI_INDEX, manifests=[made.image(random_image(key)), other])
    return packed(made.close(index, name=name_of(key)))


def docker_types(shop: Workshop, directory: Path, key: str) -> Path:
    """A manifest list and manifests of Docker's types."""
    image = several_platforms(directory, key)
    name = push(shop, image, key, form="v2s2")
    run(shop.program("forky", "crane"), "pull", "--format=oci", name, directory / "layout")
    return packed(directory / "layout")


def encrypted(_: Workshop, directory: Path, key: str) -> Path:
    out, public = directory / "out.tar", directory / "public.pem"
    run("openssl", "genrsa", "-out", directory / "key.pem", "2048")
    run("openssl", "rsa", "-in", directory / "key.pem", "-pubout", "-out", public)
    source = one(directory, key, compression="gzip")
    key_flag = f"--encryption-key=jwe:{public}"
    skopeo("copy", key_flag, source, f"oci-archive:{out}:{name_of(key)}")
    return out


# Layouts that lack something


def null_manifests(_: Workshop, directory: Path, key: str) -> Path:
    """`"manifests": null` beside a good manifest.json, as Docker 25 wrote it."""
    out = directory / "out.tar"
    image = random_image(key, media="docker")
    oci_archive(out, {name_of(key): image}, hybrid=True, null_manifests=True)
    return out


def no_layout_file(_: Workshop, directory: Path, key: str) -> Path:
    one(directory, key)
    out = directory / "out.tar"
    run("tar", "-C", directory / "source", "--exclude=./oci-layout", "-cf", out, ".")
    return out


# docker-archives that were edited, or whose layers are packed


def unpacked(directory: Path, key: str) -> Path:
    """A docker-archive of two images, as a directory."""
    made = directory / "unpacked"
    made.mkdir()
    run("tar", "-C", made, "-xf", saved_pair(directory, key))
    return made


def dotted(_: Workshop, directory: Path, key: str) -> Path:
    return packed(unpacked(directory, key))


def hard_links(_: Workshop, directory: Path, key: str) -> Path:
    """Its symbolic links made hard ones, which tar keeps."""
    made = unpacked(directory, key)
    links = [path for path in made.rglob("layer.tar") if path.is_symlink()]
    assert links
    for path in links:
        target = path.resolve()
        path.unlink()
        os.link(target, path)
    entries = json.loads((made / "manifest.json").read_text())
    by_target = {path.stat().st_ino: str(path.relative_to(made)) for path in links}
    for entry in entries:  # named by the links, as Docker does
        entry["Layers"] = [by_target[(made / name).stat().st_ino] for name in entry["Layers"]]
    (made / "manifest.json").write_text(json.dumps(entries))
    return packed(made)


def appended(_: Workshop, directory: Path, key: str) -> Path:
    """`manifest.json` a second time, with other names, by `tar -r`: the last one counts."""
    out, name = directory / "out.tar", "manifest.json"
    docker_archive(out, {name_of(key, "old"): random_image(key, media="docker")})
    run("tar", "-C", directory, "-xf", out, name, "repositories")
    for file in (name, "repositories"):
        text = (directory / file).read_text()
        assert "old" in text
        (directory / file).write_text(text.replace('"old"', '"new"').replace(":old", ":new"))
        run("tar", "-C", directory, "-rf", out, file)
    return out


def packed_layers(_: Workshop, directory: Path, key: str, *, program: str) -> Path:
    out, layer = directory / "out.tar", random_layer(key, media="docker")
    (directory / "layer").write_bytes(layer.tar)
    made = directory / "layer.packed"
    run("sh", "-c", f"{program} -c <{directory / 'layer'} >{made}")
    other = TestLayer(made.read_bytes(), layer.media_type, layer.tar)
    docker_archive(out, {name_of(key): image_of([other], media="docker")})
    return out


def _row(key: str, made_by: str, holds: str, make: Make, *needs: str, **more: Any) -> Row:
    return Row(key, "features", made_by, holds, make, needs, **more)


def odd(kind: str) -> Make:
    def make(_: Workshop, directory: Path, key: str) -> Path:
        return write_layout(directory / "odd.tar", {name_of(key): ODD[kind]})

    return make


NOT_UNPACKED = "published to containerd, but not unpacked"
ODD_ROWS = (
    ("mislabelled", "builder", "a config of another platform", "its config says linux/s390x"),
    ("spin", "builder: `spin registry push`", "WebAssembly in an image's manifest", "WebAssembly"),
    ("wasm-artifact", "builder: `wkg oci push`", "WebAssembly as an artifact", "WebAssembly"),
    ("wasm-compat", "builder: `docker buildx build --platform wasip1/wasm`",
     "WebAssembly in an image's layer", "it is WebAssembly (wasip1/wasm), for any node"),
    ("erofs", "builder", "EROFS layers", NOT_UNPACKED),
    ("nydus", "builder: `nydusify convert`", "nydus layers", NOT_UNPACKED),
    ("unknown-layers", "builder", "layers of a type that nobody knows yet", NOT_UNPACKED),
)  # fmt: skip

RUN = ("gzip", "zstd")
NOT_ALL = {"containerd": False, "skopeo": False}
REGISTRY = "docker-registry"
ROWS = [
    _row("helm", "`oras push`, `tar`", "a Helm chart", helm_chart, containerd=False),
    _row(
        "oras-artifact",
        "`oras push`, `oras attach`, `tar`",
        "an artifact and its SBOM",
        artifact,
        containerd=False,
    ),
    _row(
        "cosign",
        "`cosign sign`, `cosign save`, `tar`",
        "an image and its signature",
        tarred(cosign),
        REGISTRY,
    ),
    _row(
        "nested",
        "`crane index append`, `crane pull`, `tar`",
        "an index within an index",
        nested,
        REGISTRY,
        **NOT_ALL,
    ),
    _row(
        "docker-types",
        "`crane pull --format=oci`, `tar`",
        "Docker's media types, three platforms",
        docker_types,
        REGISTRY,
    ),
    _row(
        "foreign",
        "builder",
        "a foreign layer, which is not in the archive",
        foreign_layer,
        noted="not for this node",
        **NOT_ALL,
    ),
    _row(
        "encrypted",
        "`skopeo copy --encryption-key`",
        "encrypted layers",
        encrypted,
        "openssl",
        noted=NOT_UNPACKED,
    ),
    *(
        _row(f"odd-{kind}", made_by, holds, odd(kind), noted=noted, containerd=False)
        for kind, made_by, holds, noted in ODD_ROWS
    ),
    _row("mixed", "builder", "an index of an image and an artifact", no_platform, containerd=False),
    _row(
        "null",
        "builder: `docker save` (Docker 25)",
        '`"manifests": null` beside a `manifest.json`',
        null_manifests,
        containerd=False,
    ),
    _row(
        "no-oci-layout",
        "GNU tar",
        "an OCI layout without its `oci-layout` file",
        no_layout_file,
        containerd=False,
    ),
    _row("dotted", "GNU tar", "a docker-archive unpacked and packed again", dotted),
    _row(
        "hard-links",
        "GNU tar",
        "a docker-archive with hard-linked layers",
        hard_links,
        containerd=False,
    ),
    _row(
        "misnamed",
        "`gzip`",
        "a docker-archive whose name ends in `.tar.zst`",
        saved(SMALL),
        "gzip",
        compression="gzip",
        pack=through("gzip", "-c"),
        suffix=".tar.zst",
        noted="the file is gzip, although its name ends in .zst",
    ),
    _row("appended", "`tar -r`", "a member twice: the last counts", appended),
    *(
        _row(
            f"{program}-layers",
            "builder",
            f"layers compressed with {program}",
            functools.partial(packed_layers, program=program),
            program,
            noted="" if program in RUN else "containerd and Docker cannot run it",
        )
        for program in ("gzip", "zstd", "bzip2", "xz", "lz4")
    ),
]
