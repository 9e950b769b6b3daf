"""The page of one image, artifact or repository: all that `airside explain` says. Pure."""

from collections.abc import Iterator
from typing import Any

from airside.diagnostics.quantities import size_text
from airside.page.element import Element, Node, h, name_of
from airside.page.image_list import image_link, runtime_states
from airside.page.layout import View, facts, link, page, section, table
from airside.page.texts import copied, english, time_of


def image_detail(view: View, answer: dict[str, Any], *parts: Node) -> str:
    """Returns the document for an answer of `explain`. `parts`: below the facts, of an image."""
    reference = str(answer.get("reference", answer["what"]))
    if answer["kind"] in {"image", "artifact"}:
        shown: Node = [_facts(view, answer), parts, list(_sections(view, answer))]
    elif answer["kind"] == "repository":
        shown = _repository(view, answer)
    else:
        shown = _absent(view, answer)
    return page(view, "images", reference, shown)


def _facts(view: View, answer: dict[str, Any]) -> Element:
    words = view.words
    served = [copied(words, each, words("image.served")) for each in answer["served"]]
    tag: list[tuple[str, Node]] = [
        (words("images.moved"), time_of(answer["moved_at"])),
        (words("images.unbacked"), time_of(answer["unbacked_since"])),
    ]
    pairs: list[tuple[str, Node]] = [
        (words("images.digest"), copied(words, answer["digest"], words("images.digest"))),
        (words("image.type"), name_of(answer["artifact_type"] or answer["media_type"])),
        (words("image.form"), english(answer["form"])),
        (words("images.size"), size_text(answer["size_bytes"])),
        *((name, value) for name, value in tag if value is not None),
        (words("image.served"), served),
        (words("image.node"), _node(view, answer["node"])),
    ]
    notes = [words(f"image.{key}") for key in ("rolled_back", "mixed") if answer[key]]
    return h("div", facts(*pairs), [h("p", each, class_="poor") for each in notes])


def _node(view: View, node: dict[str, Any]) -> Node:
    words = view.words
    if node["takes"]:
        return name_of(str(node["takes"]))
    return (
        words("image.not-for-node", platform=node["platform"]),
        " ",
        english(node["note"] or ""),
    )


def _sections(view: View, answer: dict[str, Any]) -> Iterator[Element]:
    words = view.words
    if answer["problems"] or answer["lost_blobs"]:
        yield section("problems", words("problems"), _problems(answer))
    yield section("pull", words("pull"), _pull(view, answer))
    yield _listed(view, "platforms", answer["platforms"], _platform)
    yield section("runtimes", words("image.runtimes"), _runtimes(view, answer["runtimes"]))
    yield _listed(view, "origins", answer["archives"], _archive)
    yield _listed(view, "history", answer["history"], _version)
    yield _listed(view, "referrers", answer["referrers"], _referrer)
    if answer["same_digest"]:
        same = [h("li", image_link(each)) for each in answer["same_digest"]]
        yield section("same", words("image.same"), h("ul", same))


def _problems(answer: dict[str, Any]) -> Element:
    items = [
        h("li", name_of(each["archive"]), ": ", english(each["reason"]))
        for each in answer["problems"]
    ]
    items += [
        h("li", h("code", each["digest"]), ": ", english(each["state"]))
        for each in answer["lost_blobs"]
    ]
    return h("ul", items)


def pull_commands(answer: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields client and command: of `explain`, and what kubelet and oras need."""
    clients = set()
    for each in answer["pull"]:
        clients.add(each["client"])
        yield each["client"], each["command"]
    if answer["kind"] == "image":
        yield "kubelet", f"image: {answer['reference']}"
    if answer["served"] and "oras" not in clients:
        tag = answer["reference"].rpartition(":")[2] if "@" not in answer["reference"] else "latest"
        where = f"--to-oci-layout DIR:{tag}"
        yield "oras", f"oras copy --from-plain-http {answer['served'][0]} {where}"


def _pull(view: View, answer: dict[str, Any]) -> Node:
    words = view.words
    found = [(client, copied(words, command, client)) for client, command in pull_commands(answer)]
    return facts(*found) if found else h("p", words("pull.none"))


def _listed(view: View, key: str, items: list[dict[str, Any]], row: Any) -> Element:
    words = view.words
    title = words(f"image.{key}")
    if not items:
        return section(key, title, h("p", words("none"), class_="dim"))
    columns = words(f"image.{key}.columns").split("|")
    return section(key, title, table(title, columns, [row(view, each) for each in items]))


def _platform(view: View, item: dict[str, Any]) -> list[Node]:
    words = view.words
    state = "here" if item["present"] else "absent"
    return [
        name_of(item["platform"]),
        h("code", item["digest"], class_="digest"),
        h("span", words(state), class_="good" if item["present"] else "bad"),
        size_text(item["size_bytes"]) if item["present"] else "",
        name_of(item["archive"]),
    ]


def _runtimes(view: View, items: list[dict[str, Any]]) -> Element:
    words = view.words
    if not items:
        return h("p", words("image.no-runtime"), class_="dim")
    columns = words("image.runtimes.columns").split("|")
    rows: list[list[Node]] = [
        [
            name_of(each["socket"]),
            runtime_states(view, [each]),
            words("yes" if each["pinned"] else "no"),
            words("yes") if each["unpacked"] else (words("no"), " ", english(each["not_unpacked"])),
            ", ".join(f"{n} {words.state(way)}" for way, n in sorted(each["adopted"].items())),
            time_of(each["at"]),
        ]
        for each in items
    ]
    return table(words("image.runtimes"), columns, rows)


def _archive(view: View, item: dict[str, Any]) -> list[Node]:
    where = h("a", name_of(item["path"]), href=link("/ui/archive", path=item["path"]))
    return [
        where if item["path"].startswith("/") else name_of(item["path"]),
        view.words.state(item["state"]),
        english(item["role"]),
        name_of(", ".join(item["platforms"])),
        time_of(item["imported_at"] or item["settled_at"]),
    ]


def _version(view: View, item: dict[str, Any]) -> list[Node]:
    return [
        h("code", item["digest"], class_="digest"),
        view.words("yes") if item["current"] else "",
        time_of(item["at"]),
        name_of(", ".join(item["platforms"])),
        name_of(item["source"]),
    ]


def _referrer(_view: View, item: dict[str, Any]) -> list[Node]:
    return [h("code", item["digest"], class_="digest"), name_of(item["artifact_type"])]


def _repository(view: View, answer: dict[str, Any]) -> Element:
    rows: list[list[Node]] = [
        [image_link(f"{answer['reference']}:{each['tag']}"), h("code", each["digest"])]
        for each in answer["tags"]
    ]
    words = view.words
    return table(words("images"), [words("images.name"), words("images.digest")], rows)


def _absent(view: View, answer: dict[str, Any]) -> Node:
    words = view.words
    near = [h("li", image_link(str(each))) for each in answer.get("nearest", ())]
    advice = [h("li", english(each)) for each in answer.get("advice", ())]
    return [
        h("p", words("image.absent"), class_="bad"),
        h("p", english(answer["hint"])) if answer.get("hint") else None,
        section("advice", words("advice"), h("ol", advice)) if advice else None,
        section("nearest", words("image.nearest"), h("ul", near)) if near else None,
    ]
