"""The catalog's tables, version by version. Times are seconds since 1970, sizes bytes.

`MIGRATIONS[n]` migrates version n to n+1; a change of tables is a new entry, never an edit. A key's
columns come first: otherwise SQLite 3.40 reports NULL values in tables without rowid.
"""

_VERSION_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE source (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('archive', 'import', 'push', 'list', 'peer')),
    path TEXT NOT NULL,
    stat_key TEXT NOT NULL DEFAULT '',
    plan_digest TEXT NOT NULL DEFAULT '',
    sequence INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    notes TEXT NOT NULL DEFAULT '[]',
    format TEXT NOT NULL DEFAULT '',
    compression TEXT NOT NULL DEFAULT '',
    size_bytes INTEGER NOT NULL DEFAULT 0,
    settled_at REAL NOT NULL,
    changed_at REAL NOT NULL,
    imported_at REAL,
    seconds REAL,
    UNIQUE (kind, path)
) STRICT;

CREATE TABLE problem (
    source_id INTEGER NOT NULL REFERENCES source ON DELETE CASCADE,
    position INTEGER NOT NULL,
    image TEXT NOT NULL,
    blob TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (source_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE document (
    digest TEXT PRIMARY KEY,
    media_type TEXT NOT NULL,
    raw BLOB NOT NULL,
    artifact_type TEXT NOT NULL DEFAULT '',
    subject TEXT NOT NULL DEFAULT '',
    platform TEXT NOT NULL DEFAULT '',
    annotations TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE INDEX document_subject ON document (subject) WHERE subject != '';

CREATE TABLE edge (
    parent TEXT NOT NULL REFERENCES document ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('config', 'layer', 'manifest', 'subject')),
    position INTEGER NOT NULL,
    child TEXT NOT NULL,
    PRIMARY KEY (parent, kind, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX edge_child ON edge (child);

CREATE TABLE blob (
    digest TEXT PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    verified_at REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'quarantined', 'lost'))
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_verified ON blob (verified_at);

CREATE TABLE repository (
    id INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    path TEXT NOT NULL,
    UNIQUE (path, host)
) STRICT;

CREATE TABLE repository_blob (
    repository_id INTEGER NOT NULL REFERENCES repository ON DELETE CASCADE,
    digest TEXT NOT NULL,
    PRIMARY KEY (repository_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX repository_blob_digest ON repository_blob (digest);

CREATE TABLE claim (
    source_id INTEGER NOT NULL REFERENCES source ON DELETE CASCADE,
    position INTEGER NOT NULL,
    repository_id INTEGER NOT NULL REFERENCES repository,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    alias TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (source_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX claim_tag ON claim (repository_id, tag);
CREATE INDEX claim_digest ON claim (digest);

CREATE TABLE tag (
    repository_id INTEGER NOT NULL REFERENCES repository,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    source_id INTEGER REFERENCES source ON DELETE SET NULL,
    sequence INTEGER NOT NULL,
    moved_at REAL NOT NULL,
    unbacked_since REAL,
    PRIMARY KEY (repository_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX tag_digest ON tag (digest);

CREATE TABLE tag_generation (
    id INTEGER PRIMARY KEY,
    repository_id INTEGER NOT NULL REFERENCES repository,
    tag TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    digest TEXT NOT NULL,
    source_path TEXT NOT NULL,
    platforms TEXT NOT NULL,
    at REAL NOT NULL
) STRICT;
CREATE INDEX tag_generation_tag ON tag_generation (repository_id, tag, id);

CREATE TABLE tombstone (
    repository_id INTEGER NOT NULL REFERENCES repository,
    tag TEXT NOT NULL,
    source_path TEXT NOT NULL,
    plan_digest TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (repository_id, tag, source_path)
) STRICT, WITHOUT ROWID;

CREATE TABLE upload (
    id TEXT PRIMARY KEY,
    repository_id INTEGER NOT NULL REFERENCES repository,
    started_at REAL NOT NULL,
    changed_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE publication (
    runtime TEXT NOT NULL,
    reference TEXT NOT NULL,
    digest TEXT NOT NULL,
    state TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT '{}',
    at REAL NOT NULL,
    PRIMARY KEY (runtime, reference)
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    path TEXT NOT NULL DEFAULT '',
    reference TEXT NOT NULL DEFAULT '',
    digest TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL DEFAULT ''
) STRICT;
"""

_VERSION_2 = """
ALTER TABLE source ADD COLUMN removed_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE source ADD COLUMN on_removal TEXT NOT NULL DEFAULT '';
UPDATE source SET removed_at = sequence WHERE state = 'removed';

ALTER TABLE document ADD COLUMN kind TEXT NOT NULL DEFAULT '';

CREATE TABLE claim_part (
    source_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    number INTEGER NOT NULL,
    platform TEXT NOT NULL,
    digest TEXT NOT NULL,
    held INTEGER NOT NULL,
    attested TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (source_id, position, number),
    FOREIGN KEY (source_id, position) REFERENCES claim ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE tag_part (
    repository_id INTEGER NOT NULL,
    tag TEXT NOT NULL,
    platform TEXT NOT NULL,
    digest TEXT NOT NULL,
    source_id INTEGER REFERENCES source ON DELETE SET NULL,
    sequence INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (repository_id, tag, platform),
    FOREIGN KEY (repository_id, tag) REFERENCES tag ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX tag_part_source ON tag_part (source_id);

ALTER TABLE tag_generation ADD COLUMN parts TEXT NOT NULL DEFAULT '[]';

CREATE TABLE rollback (
    repository_id INTEGER NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (repository_id, tag),
    FOREIGN KEY (repository_id, tag) REFERENCES tag ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
"""

_VERSION_3 = """
CREATE INDEX tag_source ON tag (source_id);
"""

_VERSION_4 = """
CREATE TABLE intent (
    runtime TEXT NOT NULL,
    target TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (runtime, target)
) STRICT, WITHOUT ROWID;
"""

_VERSION_5 = """
DROP TABLE upload;
CREATE TABLE pushed (
    repository_id INTEGER NOT NULL REFERENCES repository ON DELETE CASCADE,
    digest TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (repository_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX pushed_at ON pushed (at);

ALTER TABLE source ADD COLUMN origin TEXT NOT NULL DEFAULT '';
"""
"""`pushed`: blobs that a client sent or mounted, kept for a grace time.

No manifest may need them yet. `origin`: the client of a push and its address. Uploads are in
memory.
"""

_VERSION_6 = """
CREATE TABLE unknown_blob (
    digest TEXT PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    found_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""
"""`unknown_blob`: blobs without a record since records were lost; `gc --unknown` deletes them."""

MIGRATIONS: tuple[str, ...] = (
    _VERSION_1,
    _VERSION_2,
    _VERSION_3,
    _VERSION_4,
    _VERSION_5,
    _VERSION_6,
)
VERSION = len(MIGRATIONS)
