"""A client that pushes, pulls and deletes well and badly, and knows what must come of it.

Each run has repositories and contents of its own, so that many share one registry. A request that
is refused must leave the catalog untouched; each answer is read from one connection that stays in
step.
"""

import itertools
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from airside.oci.reference import Repository
from airside.registry.push.uploads import Upload
from support.waiting import wait_until

from .distribution import CONFIG, INDEX, LAYER, MANIFEST, digest_of
from .hostile import DOCUMENTS, TARGETS
from .malformed import Victim, check_reply
from .wire import Reply, Wire, chunked, request

ABSENT = "sha256:" + "0" * 64
TAGS = ("1", "latest", "V2_x")
_numbers = itertools.count()

repositories = st.integers(0, 1)
contents = st.sampled_from([b"", b"a", b"bc", b"d" * 100, b"e" * 70_000])
picks = st.integers(0, 50)


@dataclass
class Sending:
    """An upload as the client knows it."""

    repository: str
    id: str
    data: bytes = b""
    ended: bool = False

    @property
    def target(self) -> str:
        return f"/v2/{self.repository}/blobs/uploads/{self.id}"


@dataclass
class Model:
    """What must be there: repository → digests; digest → bytes; documents and their types."""

    linked: dict[str, set[str]] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    bytes_of: dict[str, bytes] = field(default_factory=dict)
    documents: dict[str, str] = field(default_factory=dict)

    def hold(self, repository: str, data: bytes, digest: str) -> None:
        self.linked[repository].add(digest)
        self.bytes_of[digest] = data

    def users(self, repository: str, digest: str) -> list[str]:
        """Documents of the repository that list the digest."""
        held = self.linked[repository] & self.documents.keys()
        return [each for each in held if digest in listed(self.bytes_of[each])]

    def referrers(self, repository: str, digest: str) -> set[str]:
        held = self.linked[repository] & self.documents.keys()
        return {
            each
            for each in held
            if json.loads(self.bytes_of[each]).get("subject", {}).get("digest") == digest
        }


def listed(raw: bytes) -> dict[str, int]:
    """What a document needs: digest → size."""
    value = json.loads(raw)
    found = value.get("manifests") or [value.get("config"), *value.get("layers", [])]
    return {each["digest"]: each["size"] for each in found if each}


class Machine(RuleBasedStateMachine):
    registry: ClassVar[Victim]
    seen: ClassVar[dict[int, int]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.number = next(_numbers)
        self.names = [f"m{self.number}/a", f"m{self.number}/b/c"]
        self.model = Model({n: set() for n in self.names}, {n: {} for n in self.names})
        self.uploads: list[Sending] = []
        self.wire = Wire(self.registry.address)
        catalog = self.registry.node.settings.data / "catalog.db"
        self.db = sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)

    def teardown(self) -> None:
        try:
            self.look_at_all()
            self.registry.swept()
        finally:
            self.wire.close()
            self.db.close()

    # asking

    def ask(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
    ) -> Reply:
        before = self.version()
        self.wire.send(request(method, target, headers, body))
        reply = self.wire.read(method)
        assert reply is not None, f"{method} {target}: the connection ended"
        if reply.is_last:
            self.wire.close()
            self.wire = Wire(self.registry.address)
        check_reply(reply)
        self.seen[reply.status] = self.seen.get(reply.status, 0) + 1
        told = self.registry.log.take()
        assert not told, told
        if reply.status >= 400 or method in {"GET", "HEAD"}:
            assert self.version() == before, f"{method} {target}: {reply.status}, and a change"
        return reply

    def version(self) -> int:
        """Another one after each change of the catalog."""
        [found] = self.db.execute("PRAGMA data_version").fetchone()
        return int(found)

    def expect(self, status: int | set[int], reply: Reply) -> Reply:
        allowed = status if isinstance(status, set) else {status}
        assert reply.status in allowed, (allowed, reply)
        return reply

    def data(self, content: bytes, digest: str = "sha256") -> tuple[bytes, str]:
        """Bytes of this run alone."""
        data = content + (f"/{self.number}".encode() if content else b"")
        return data, digest_of(data, digest)

    # uploads

    @rule(where=repositories, algorithm=st.sampled_from(["", "sha256", "sha512", "md5", "%00"]))
    def begin(self, where: int, algorithm: str) -> None:
        query = f"?digest-algorithm={algorithm}" if algorithm else ""
        target = f"/v2/{self.names[where]}/blobs/uploads/{query}"
        reply = self.ask("POST", target, body=b"")
        if algorithm in {"md5", "%00"}:
            self.expect(400, reply)
        else:
            self.begun(self.expect(202, reply), where)

    def begun(self, reply: Reply, where: int) -> None:
        location = reply.headers["location"]
        found = Sending(self.names[where], reply.headers["docker-upload-uuid"])
        assert location == found.target
        self.uploads.append(found)

    def pick(self, which: int) -> Sending:
        return self.uploads[which % len(self.uploads)]

    def upload_of(self, sending: Sending) -> Upload:
        uploads = self.registry.node.pusher.uploads
        return uploads.get(sending.id, Repository("", sending.repository))

    @precondition(lambda self: self.uploads)
    @rule(
        which=picks,
        content=contents,
        told=st.sampled_from(["", "right", "http", "gap", "back", "long", "x", "5-4", "9" * 30]),
        streamed=st.booleans(),
    )
    def append(self, which: int, content: bytes, told: str, *, streamed: bool) -> None:
        sending = self.pick(which)
        status = self.send(sending, "PATCH", "", content, told, streamed=streamed)
        if status == 202:
            self.ask_state(sending)

    def send(
        self, at: Sending, method: str, query: str, content: bytes, told: str, *, streamed: bool
    ) -> int:
        """Send bytes of an upload; gives the status, which is checked unless it is a good one."""
        start, count = len(at.data), len(content)
        lines, wrong = self.ranged(told, start, count)
        if streamed:
            lines.append(("Transfer-Encoding", "chunked"))
            pieces = [content[i : i + 9000] for i in range(0, count, 9000)]
            reply = self.ask(method, at.target + query, lines, chunked(pieces))
        else:
            reply = self.ask(method, at.target + query, lines, content)
        if wrong == "text":  # it can't be read: refused whatever it is sent to
            self.expect(416, reply)
        elif at.ended:
            self.expect(404, reply)
        elif wrong == "start" or (wrong == "count" and not streamed):
            self.expect(416, reply)
            assert reply.headers["range"] == f"0-{max(start - 1, 0)}"
        elif wrong == "count":
            self.expect(400, reply)
            at.ended = True
        else:
            at.data += content
            return reply.status
        return 0

    def ranged(self, told: str, start: int, count: int) -> tuple[list[tuple[str, str]], str]:
        last = start + count - 1
        values = {
            "right": (f"{start}-{last}", "" if count else "text"),
            "http": (f"bytes {start}-{last}/*", "" if count else "text"),
            "gap": (f"{start + 1}-{last + 1}", "start" if count else "text"),
            "back": (f"{start - 1}-{last}", "start" if start else "text"),
            "long": (f"{start}-{last + 1}", "count"),
        }
        if not told:
            return [], ""
        value, wrong = values.get(told, (told, "text"))
        return [("Content-Range", value)], wrong

    def ask_state(self, sending: Sending) -> None:
        reply = self.expect(204, self.ask("GET", sending.target))
        assert reply.headers["range"] == f"0-{max(len(sending.data) - 1, 0)}"
        assert reply.headers["location"] == sending.target

    @precondition(lambda self: self.uploads)
    @rule(
        which=picks,
        content=contents,
        digest=st.sampled_from(["sha256", "sha512", "wrong", "sha256:x", "%00", ""]),
        told=st.sampled_from(["", "", "right", "gap", "long"]),
        streamed=st.booleans(),
    )
    def finish(self, which: int, content: bytes, digest: str, told: str, *, streamed: bool) -> None:
        sending = self.pick(which)
        whole = sending.data + content
        text = digest_of(whole, digest) if digest in {"sha256", "sha512"} else digest
        text = ABSENT if digest == "wrong" else text
        query = f"?digest={text}" if text else ""
        if digest in {"sha256:x", "%00", ""}:  # before anything is taken
            reply = self.ask("PUT", sending.target + query, body=content)
            self.expect(400, reply)
            return
        status = self.send(sending, "PUT", query, content, told, streamed=streamed)
        if status:
            sending.ended = True
            assert status == (400 if digest == "wrong" else 201), status
            if status == 201:
                self.model.hold(sending.repository, whole, text)

    @precondition(lambda self: self.uploads)
    @rule(which=picks, elsewhere=st.booleans())
    def cancel(self, which: int, *, elsewhere: bool) -> None:
        sending = self.pick(which)
        other = Sending(self.names[1 - self.names.index(sending.repository)], sending.id)
        reply = self.ask("DELETE", (other if elsewhere else sending).target)
        if elsewhere:
            self.expect(404, reply)
        else:
            self.expect(404 if sending.ended else 204, reply)
            sending.ended = True

    @precondition(lambda self: any(not each.ended for each in self.uploads))
    @rule(
        which=picks,
        then=st.sampled_from(["go", "finish", "second", "cancel"]),
        streamed=st.booleans(),
    )
    def break_off(self, which: int, then: str, *, streamed: bool) -> None:
        """A request stands in the middle of its body, and the client goes, or another comes."""
        sending = [each for each in self.uploads if not each.ended][which % 5 % self.live()]
        upload, part, rest = self.upload_of(sending), b"half of it", b" and the rest"
        before = len(sending.data)
        with Wire(self.registry.address) as wire:
            if streamed:
                lines = [("Transfer-Encoding", "chunked")]
                wire.send(request("PATCH", sending.target, lines, b"%x\r\n" % len(part) + part))
                rest = b"\r\n%x\r\n" % len(rest) + rest + b"\r\n0\r\n\r\n"
            else:
                lines = [("Content-Length", str(len(part + rest)))]
                wire.send(request("PATCH", sending.target, lines) + part)
            wait_until(lambda: upload.is_written)
            if then == "second":
                self.expect(409, self.ask("PATCH", sending.target, body=b"x"))
                query = f"?digest={ABSENT}"
                self.expect(409, self.ask("PUT", sending.target + query, body=b"x"))
            elif then == "cancel":
                self.expect(204, self.ask("DELETE", sending.target))
                sending.ended = True
            if then != "go":
                wire.send(rest)
                reply = wire.read("PATCH")
                assert reply is not None
                self.expect(404 if then == "cancel" else 202, reply)
        wait_until(lambda: not upload.is_written)
        if not sending.ended:
            sending.data += b"half of it and the rest"[: upload.offset - before]
            assert upload.offset == len(sending.data)
            assert then == "go" or sending.data.endswith(b"rest")
            self.ask_state(sending)

    def live(self) -> int:
        return sum(not each.ended for each in self.uploads)

    @rule(where=repositories, content=contents, wrong=st.booleans())
    def post_whole(self, where: int, content: bytes, *, wrong: bool) -> None:
        data, digest = self.data(content)
        target = f"/v2/{self.names[where]}/blobs/uploads/?digest={ABSENT if wrong else digest}"
        self.expect(400 if wrong else 201, self.ask("POST", target, body=data))
        if not wrong:
            self.model.hold(self.names[where], data, digest)

    @rule(where=repositories, content=contents, source=st.sampled_from(["other", "", "m/none"]))
    def mount(self, where: int, content: bytes, source: str) -> None:
        _, digest = self.data(content or b"a")
        here, other = self.names[where], self.names[1 - where]
        query = {"other": f"&from={other}", "": ""}.get(source, f"&from={source}")
        target = f"/v2/{here}/blobs/uploads/?mount={digest}{query}"
        reply = self.expect({201, 202}, self.ask("POST", target, body=b""))
        held = {"other": self.model.linked[other], "m/none": set()}
        everywhere = self.model.linked[here] | self.model.linked[other]
        assert (reply.status == 201) == (digest in held.get(source, everywhere))
        if reply.status == 202:
            self.begun(reply, where)
        else:
            self.model.linked[here].add(digest)

    # manifests

    @rule(
        where=repositories,
        chosen=st.lists(picks, min_size=1, max_size=4),
        kind=st.sampled_from(["image", "image", "index"]),
        flaw=st.sampled_from(["", "", "", "absent", "size", "type", "digest", "tag", "extra"]),
        subject=st.sampled_from(["", "absent", "held", "unknown"]),
        at=st.sampled_from([*TAGS, "sha256", "sha512"]),
    )
    def put_manifest(
        self, where: int, chosen: list[int], kind: str, flaw: str, subject: str, at: str
    ) -> None:
        here = self.names[where]
        raw = self.document(here, chosen, kind, flaw, subject)
        if raw is None:
            return
        by_digest = at in {"sha256", "sha512"}
        digest = digest_of(raw, at if by_digest else "sha256")
        reference = {"digest": ABSENT, "tag": "." + "x" * 128}.get(flaw, digest)
        if flaw not in {"digest", "tag"} and not by_digest:
            reference = at
        media_type = INDEX if kind == "index" else MANIFEST
        told = {"type": "application/vnd.docker.distribution.manifest.v2+json"}.get(
            flaw, media_type
        )
        query = "?tag=extra&tag=extra&tag=2" if flaw == "extra" else ""
        target = f"/v2/{here}/manifests/{reference}{query}"
        reply = self.ask("PUT", target, [("Content-Type", told)], raw)
        if flaw in {"absent", "size", "type", "digest", "tag"}:
            self.expect(400, reply)
            return
        self.expect(201, reply)
        assert reply.headers["docker-content-digest"] == digest
        self.model.hold(here, raw, digest)
        self.model.documents[digest] = media_type
        new = ([] if by_digest else [at]) + (["extra", "2"] if query else [])
        self.model.tags[here] |= dict.fromkeys(new, digest)

    def document(
        self, here: str, chosen: list[int], kind: str, flaw: str, subject: str
    ) -> bytes | None:
        """A document of what the repository has, but for the flaw; None if it has too little."""
        documents = sorted(self.model.linked[here] & self.model.documents.keys())
        held = documents if kind == "index" else sorted(self.model.linked[here])
        if not held:
            return None
        types = self.model.documents if kind == "index" else {}
        found: list[dict[str, Any]] = []
        for digest in (held[n % len(held)] for n in chosen):
            size = len(self.model.bytes_of[digest])
            found.append({"mediaType": types.get(digest, LAYER), "digest": digest, "size": size})
        if flaw == "absent":
            found.append({**found[0], "digest": ABSENT})
        if flaw == "size":
            found.append({**found[0], "size": found[0]["size"] + 1})
        value: dict[str, Any] = {"schemaVersion": 2}
        if kind == "index":
            value |= {"mediaType": INDEX, "manifests": found}
        else:
            config = {**found[0], "mediaType": CONFIG}
            value |= {"mediaType": MANIFEST, "config": config, "layers": found[1:]}
        target = {"absent": ABSENT, "held": held[0]}.get(subject, "")
        if target:
            value["subject"] = {"mediaType": MANIFEST, "digest": target, "size": 7}
        value["annotations"] = {"run": str(self.number)}
        return json.dumps(value).encode()

    @rule(where=repositories, which=picks, digest=st.booleans())
    def delete_manifest(self, where: int, which: int, *, digest: bool) -> None:
        here = self.names[where]
        linked, tags = self.model.linked[here], self.model.tags[here]
        if not digest:
            tag = TAGS[which % len(TAGS)]
            reply = self.ask("DELETE", f"/v2/{here}/manifests/{tag}")
            self.expect(202 if tags.pop(tag, None) else 404, reply)
            return
        known = [*sorted(self.model.bytes_of), ABSENT]
        asked = known[which % len(known)]
        reply = self.ask("DELETE", f"/v2/{here}/manifests/{asked}")
        if asked in linked and asked in self.model.documents:
            self.expect(202, reply)
            linked.discard(asked)
            for tag in [tag for tag, at in tags.items() if at == asked]:
                del tags[tag]
        else:
            self.expect(404, reply)

    @rule(where=repositories, which=picks)
    def delete_blob(self, where: int, which: int) -> None:
        here = self.names[where]
        known = [*sorted(self.model.bytes_of), ABSENT]
        asked = known[which % len(known)]
        reply = self.ask("DELETE", f"/v2/{here}/blobs/{asked}")
        if asked not in self.model.linked[here]:
            self.expect(404, reply)
        elif asked in self.model.documents or self.model.users(here, asked):
            self.expect(409, reply)
        else:
            self.expect(202, reply)
            self.model.linked[here].discard(asked)

    # nonsense

    @rule(number=st.integers(0, len(DOCUMENTS) - 1), at=st.sampled_from(["x", digest_of(b"{}")]))
    def put_hostile(self, number: int, at: str) -> None:
        """By number: hypothesis keeps the text of what it draws from, again and again."""
        raw = DOCUMENTS[number]
        reply = self.ask("PUT", f"/v2/m{self.number}/hostile/manifests/{at}", (), raw)
        self.expect({400, 413, 201}, reply)
        if reply.status == 201:
            found = self.ask("GET", f"/v2/m{self.number}/hostile/manifests/{at}")
            assert (found.status, found.body) == (200, raw)

    @rule(
        method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
        path=TARGETS,
        lines=st.lists(
            st.sampled_from(
                [
                    *(("Range", v) for v in ("bytes=0-", "bytes=-0", "bytes=9-1", "x=1", "bytes=")),
                    *(("Range", "bytes=" + "9" * 40 + "-"), ("If-Match", "x"), ("Accept", "")),
                    *(("If-None-Match", "*"), ("Content-Type", "\udcff"), ("Content-Range", "9")),
                    *(("Expect", "100-continue"), ("Accept-Encoding", "gzip"), ("TE", "x")),
                ]
            ),
            max_size=3,
        ),
    )
    def ask_nonsense(self, method: str, path: str, lines: list[tuple[str, str]]) -> None:
        """At names that no other rule uses."""
        body = None if method in {"GET", "HEAD"} else b"{}"
        self.ask(method, f"/v2/n{self.number}{path}", lines, body)

    # looking

    @rule(where=repositories, which=picks, line=st.sampled_from(["", "bytes=1-3", "bytes=-2"]))
    def read_blob(self, where: int, which: int, line: str) -> None:
        here = self.names[where]
        known = [*sorted(self.model.bytes_of), ABSENT]
        digest = known[which % len(known)]
        reply = self.ask("GET", f"/v2/{here}/blobs/{digest}", [("Range", line)] if line else [])
        if digest not in self.model.linked[here]:
            self.expect(404, reply)
            return
        data = self.model.bytes_of[digest]
        parts = {"": data, "bytes=1-3": data[1:4], "bytes=-2": data[-2:]}
        assert reply.status == 200 if not line else reply.status in {200, 206, 416}
        if reply.status < 400:
            assert reply.body == (data if reply.status == 200 else parts[line])

    @rule()
    def look_at_all(self) -> None:
        for here in self.names:
            for digest, data in self.model.bytes_of.items():
                self.look_at(here, digest, data)
            reply = self.ask("GET", f"/v2/{here}/tags/list")
            tags = self.model.tags[here]
            self.expect(200 if tags else {200, 404}, reply)
            if reply.status == 200:
                assert json.loads(reply.body)["tags"] == sorted(tags)
            for tag, digest in tags.items():
                found = self.ask("GET", f"/v2/{here}/manifests/{tag}")
                assert (found.status, found.body) == (200, self.model.bytes_of[digest])

    def look_at(self, here: str, digest: str, data: bytes) -> None:
        linked = digest in self.model.linked[here]
        kinds = {"blobs": linked, "manifests": linked and digest in self.model.documents}
        for kind, is_here in kinds.items():
            target = f"/v2/{here}/{kind}/{digest}"
            got, head = self.ask("GET", target), self.ask("HEAD", target)
            assert got.status == head.status == (200 if is_here else 404), target
            assert not is_here or got.body == data
            same = ("content-length", "content-type", "docker-content-digest", "etag")
            assert [got.headers.get(n) for n in same] == [head.headers.get(n) for n in same]
        if linked:
            reply = self.expect(200, self.ask("GET", f"/v2/{here}/referrers/{digest}"))
            shown = {each["digest"] for each in json.loads(reply.body)["manifests"]}
            assert shown == self.model.referrers(here, digest)
