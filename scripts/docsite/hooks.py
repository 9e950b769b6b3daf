"""The hooks of `mkdocs.yml`: tables from the code, and links to files outside `docs`.

Where a page has the line `<!-- settings -->` the tables of all settings are put, and for
`<!-- screenshots -->` the pictures that `make screenshots` took, if it did; for
`<!-- walkthrough -->` what `make walkthrough` typed, was answered and saw. A link that leaves
`docs` leads to a page or a file of the site that is a copy of what it names.
"""

import json
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "scripts")]

from docsite.settings import tables  # noqa: E402 - the path is set above

PAGES = {"CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}
"""Documents at the root that are pages of the site."""
PICTURES = ROOT / "build/screenshots"
WALKS = ROOT / "build/walkthrough"
_CHINESE = re.compile("[\u3400-\u9fff](?=[\u3400-\u9fff])")
_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: Any) -> Files:
    """Adds the documents of the root, and each file outside `docs` that a page links to."""
    make = File.generated
    for name, page in PAGES.items():
        files.append(make(config, page, content=_moved(ROOT / name, page)))
    for target in sorted(_outside(files)):
        files.append(make(config, f"files/{target}", abs_src_path=str(ROOT / target)))
    for picture in _pictures():
        files.append(make(config, f"assets/{picture.name}", abs_src_path=str(picture)))
    return files


event_priority(-100)(on_files)  # after the languages, which take only files of `docs`


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Puts in the generated tables, and turns links that leave `docs`."""
    here = posixpath.dirname(page.file.src_uri)
    markdown = markdown.replace("<!-- settings -->", tables())
    markdown = markdown.replace("<!-- screenshots -->", _shown())
    markdown = markdown.replace("<!-- walkthrough -->", _walks())
    return _LINK.sub(lambda match: _turned(match, here), markdown)


def _pictures() -> list[Path]:
    return sorted([*PICTURES.glob("*.png"), *WALKS.glob("*.png")])


def _walks() -> str:
    """Returns the transcripts, with their pictures."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(WALKS.glob("*.md"), reverse=True)]
    return re.sub(r"(?m)^(!\[.*\]\()(.*\.png\))$", r"\1assets/\2", "\n".join(texts))


def _shown() -> str:
    """Returns the pictures, each with its name as the text for who does not see it."""
    return "\n\n".join(
        f"![The page: {path.stem.replace('-', ', ')}](assets/{path.name})"
        for path in sorted(PICTURES.glob("*.png"))
    )


def on_post_build(config: Any) -> None:
    """Leaves the English pages that stand for a translation out of the search.

    Chinese has no spaces: each of its characters is made a word of the index.
    """
    file = Path(config.site_dir) / "search/search_index.json"
    index = json.loads(file.read_text(encoding="utf-8"))
    found: dict[tuple[str, ...], Any] = {}
    for entry in index["docs"]:
        at = _original(entry["location"])
        parted = {key: _CHINESE.sub("\\g<0>\u200b", entry[key]) for key in ("title", "text")}
        found.setdefault((at, *parted.values()), entry | parted | {"location": at})
    text = json.dumps(index | {"docs": list(found.values())}, separators=(",", ":"))
    file.write_text(text, encoding="utf-8")
    file.with_suffix(".js").write_text(f"var __index = {text}", encoding="utf-8")


event_priority(-200)(on_post_build)  # after all that write the index


def _original(location: str) -> str:
    """Returns the place of the original where a page of another language is not translated."""
    page, hash_, anchor = location.partition("#")
    source = page.removeprefix("zh/").removesuffix(".html")
    if not page.startswith("zh/") or (ROOT / f"docs/{source}.zh.md").exists():
        return location
    return source + ".html" + hash_ + anchor


def _turned(match: re.Match[str], here: str) -> str:
    target = _beyond(here, match[2])
    if target is None:
        return match[0]
    to = PAGES.get(target, f"files/{target}")
    return match[1] + posixpath.relpath(to, here or ".") + (match[3] or "") + match[4]


def _beyond(here: str, link: str) -> str | None:
    """Returns the path below the root of a file outside `docs`, or None for a link within."""
    path = posixpath.normpath(posixpath.join("docs", here, link))
    inside = path.startswith("docs/") or path == "docs"
    return None if inside or not (ROOT / path).is_file() else path


def _outside(files: Files) -> set[str]:
    found = set()
    for file in files.documentation_pages():
        here = posixpath.dirname(file.src_uri)
        for match in _LINK.finditer(file.content_string):
            target = _beyond(here, match[2])
            if target is not None and target not in PAGES:
                found.add(target)
    return found


def _moved(path: Path, page: str) -> str:
    """Returns a document of the root as a page of the site: its links to `docs/` lose that."""
    text = path.read_text(encoding="utf-8")
    here = posixpath.dirname(page)

    def turned(match: re.Match[str]) -> str:
        if not match[2].startswith("docs/"):
            return match[0] if match[2] in PAGES else f"{match[1]}{match[2]}{match[4]}"
        to = posixpath.relpath(match[2].removeprefix("docs/"), here or ".")
        return f"{match[1]}{to}{match[3] or ''}{match[4]}"

    return _LINK.sub(turned, text)
