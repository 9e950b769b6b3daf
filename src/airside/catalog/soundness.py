"""Examines a catalog's file before it is opened for work: the file, and whether records agree.

SQLite has no checksums of pages: a flipped bit in a text stays a valid text. So the records are
compared with one another too: each document with its digest, each edge with the document that it
comes from, each tag with its document. Blocking; cost grows with the file.
"""

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from airside.catalog.schema import VERSION
from airside.core.errors import InputError
from airside.core.settings import MIB
from airside.oci.digest import digest_of, is_digest, parse_digest
from airside.oci.strict_json import load_json

_THOROUGH_BYTES = 256 * MIB
"""A larger file is checked without its indexes (`quick_check`), and its records not at all."""
_DIGEST = re.compile(rb"sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})")
_DANGLING = {
    "tag": "SELECT digest FROM tag WHERE digest NOT IN (SELECT digest FROM document)",
    "earlier version": "SELECT digest FROM tag_generation"
    " WHERE digest NOT IN (SELECT digest FROM document)",
}


@dataclass(frozen=True, slots=True)
class Examined:
    """What is wrong with a catalog's file; empty if nothing. `generation`: of its last change."""

    reason: str = ""
    generation: int = 0


def examine_catalog(path: Path, *, trusted: bool = False) -> Examined:
    """Examines the file. `trusted`: its bytes are known to be right, so only read the generation.

    Never raises for a damaged file. A file of a newer version counts as right.
    """
    uri = f"file:{quote(str(path))}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as db:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if not version or version > VERSION:
                return Examined()
            if not trusted and (reason := _damage(db, path, version)):
                return Examined(reason)
            row = db.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()
            return Examined(generation=int(row[0]) if row else 0)
    except sqlite3.OperationalError as exc:
        if (getattr(exc, "sqlite_errorcode", 0) & 0xFF) in _NOT_OF_THE_FILE:
            return Examined()  # opening it for work says what is wrong
        return Examined(f"SQLite cannot read it: {exc}")
    except (sqlite3.Error, ValueError, UnicodeDecodeError) as exc:
        return Examined(f"SQLite cannot read it: {exc}")


_NOT_OF_THE_FILE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
}


def _damage(db: sqlite3.Connection, path: Path, version: int) -> str:
    is_small = path.stat().st_size <= _THOROUGH_BYTES
    check = "integrity_check" if is_small else "quick_check"
    found = str(db.execute(f"PRAGMA {check}(1)").fetchone()[0])
    if found != "ok":
        return f"SQLite says: {found.splitlines()[-1][:200]}"
    broken = db.execute("PRAGMA foreign_key_check").fetchone()
    if broken is not None:
        return f"a row of the table {broken[0]} belongs to nothing"
    return _disagreement(db) if is_small and version == VERSION else ""


def _disagreement(db: sqlite3.Connection) -> str:
    """Returns which records contradict each other; empty if none do."""
    for what, query in _DANGLING.items():
        row = db.execute(query).fetchone()
        if row is not None:
            return f"a {what} leads to {str(row[0])[:80]}, which is no document"
    for text, raw in db.execute("SELECT digest, raw FROM document"):
        if not is_digest(text):
            return "a document has no valid digest"
        digest = parse_digest(text)
        if digest_of(raw, digest.algorithm) != digest:
            return f"the bytes of the document {text} are not those of its digest"
        children = db.execute("SELECT child FROM edge WHERE parent = ?", (text,)).fetchall()
        if not _lists(raw, {child.encode() for (child,) in children}):
            return f"the document {text} does not list what its edges say"
    return ""


def _lists(raw: bytes, children: set[bytes]) -> bool:
    """Returns True if the document has all these digests, also those that JSON escapes spell."""
    if children <= set(_DIGEST.findall(raw)):
        return True
    if b"\\" not in raw:
        return False
    try:
        spelled = json.dumps(load_json(raw, "a document", max_tokens=None))
    except InputError:
        return True  # an earlier version took it: the bytes are those of its digest
    return children <= set(_DIGEST.findall(spelled.encode()))
