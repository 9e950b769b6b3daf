"""The methods of each endpoint, for OPTIONS (RFC 9110, 9.3.7). Pure."""

from urllib.parse import unquote

_READ = ("GET", "HEAD")
_KINDS = {
    "manifests": (*_READ, "PUT", "DELETE"),
    "blobs": (*_READ, "DELETE"),
    "tags": _READ,
    "referrers": _READ,
}
_UPLOADS, _UPLOAD = ("POST",), ("GET", "PATCH", "PUT", "DELETE")
_ARCHIVES = "/ui/uploads"
_ARCHIVE = ("HEAD", "PATCH", "PUT", "DELETE")
_ALL = (*_READ, "POST", "PUT", "PATCH", "DELETE")


def allowed_methods(target: str, *, is_writable: bool) -> tuple[str, ...]:
    """Returns the methods that the endpoint of a target supports, OPTIONS the last."""
    found = _methods(unquote(target.partition("?")[0]))
    kept = found if is_writable else tuple(method for method in found if method in _READ)
    return (*kept, "OPTIONS")


def _methods(path: str) -> tuple[str, ...]:
    if path == "*":
        return _ALL
    if path == _ARCHIVES or path.startswith(_ARCHIVES + "/"):
        return _UPLOADS if path == _ARCHIVES else _ARCHIVE
    if not path.startswith("/v2/") or path in {"/v2/", "/v2/_catalog"}:
        return _READ
    head, _, last = path.rstrip("/").rpartition("/")
    if head.endswith("/blobs/uploads"):
        return _UPLOAD
    if path.rstrip("/").endswith("/blobs/uploads"):
        return _UPLOADS
    return _KINDS.get(head.rpartition("/")[2], _READ) if last else _READ
