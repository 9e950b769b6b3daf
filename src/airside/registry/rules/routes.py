"""The route of a request as a template, for counting. Pure.

The answer is one of a fixed set, whatever the request: no repository, tag or digest is in it.
"""

from typing import Final

OTHER: Final = "other"
UI: Final = "/ui/"
_NAMED: Final = {
    "manifests": "/v2/{name}/manifests/{reference}",
    "blobs": "/v2/{name}/blobs/{digest}",
    "referrers": "/v2/{name}/referrers/{digest}",
}
_EXACT: Final = {
    **{path: path for path in ("/", "/healthz", "/readyz", "/metrics", "/token", "/v2/_catalog")},
    "/v2": "/v2/",
    "/v2/": "/v2/",
}
_TAGS: Final = "/v2/{name}/tags/list"
_UPLOADS: Final = "/v2/{name}/blobs/uploads/"
_UPLOAD: Final = "/v2/{name}/blobs/uploads/{session}"
ROUTES: Final = frozenset({*_EXACT.values(), *_NAMED.values(), _TAGS, _UPLOADS, _UPLOAD, UI, OTHER})


def route_of(target: str) -> str:
    """Returns the template of a raw request target."""
    path = target.partition("?")[0]
    exact = _EXACT.get(path)
    if exact is not None:
        return exact
    if path.startswith("/v2/"):
        return _named(path)
    return UI if path == "/ui" or path.startswith("/ui/") else OTHER


def _named(path: str) -> str:
    head, _, last = path.rpartition("/")
    before, _, kind = head.rpartition("/")
    if kind == "uploads" and before.endswith("/blobs"):
        return _UPLOAD if last else _UPLOADS
    if kind == "blobs" and last == "uploads":
        return _UPLOADS
    if kind == "tags" and last == "list":
        return _TAGS
    return _NAMED.get(kind, OTHER)
