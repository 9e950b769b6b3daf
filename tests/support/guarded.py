"""The registry with its guard and listener on loopback, in a thread of its own; certificates."""

import asyncio
import base64
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any, Self

import bcrypt
from aiohttp import web

from airside.core.settings import Settings
from airside.ports.content import ContentStore, RegistryView
from airside.registry.auth.files import SecurityFiles
from airside.registry.auth.login import Logins
from airside.registry.http.app import create_app
from airside.registry.http.deadline import DeadlinePool
from airside.registry.http.listener import Listener
from airside.registry.http.middleware import AccessGuard
from airside.registry.http.served_content import ServedContent

SECONDS = 20.0


def htpasswd(**users: str) -> str:
    """The cheapest hashes that bcrypt has."""
    lines = (
        f"{user}:{bcrypt.hashpw(secret.encode(), bcrypt.gensalt(4)).decode()}\n"
        for user, secret in users.items()
    )
    return "".join(lines)


def basic(user: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()}


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["errors"][0]["code"])

    @property
    def challenge(self) -> str:
        return self.headers.get("WWW-Authenticate", "")


@dataclass
class Guarded:
    """Serve while it is entered. `app` makes another application with the guard.

    `slept` are the seconds for which answers were held back: nobody really waits, and no failed
    login is forgotten.
    """

    view: RegistryView
    store: ContentStore
    settings: Settings = field(default_factory=Settings)
    is_loopback: bool = True
    app: Callable[[AccessGuard], web.Application] | None = None
    keepalive_seconds: float = 75.0
    trust: ssl.SSLContext | None = None
    slept: list[float] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.secured = SecurityFiles(self.settings, is_loopback=self.is_loopback)
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._started.wait(SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        with ThreadPoolExecutor(2, "reads") as reads:
            self.logins = Logins(
                lambda: self.secured.accounts, clock=lambda: 0.0, sleep=self._sleep
            )
            guard = AccessGuard(
                *(self.view, lambda: self.secured.accounts, self.settings, reads),
                logins=self.logins,
            )
            app = create_app(
                ServedContent(self.view, self.store, "docker.io"),
                DeadlinePool(reads),
                guard=guard,
            )
            runner = web.AppRunner(
                self.app(guard) if self.app else app,
                access_log=None,
                shutdown_timeout=1.0,
                keepalive_timeout=self.keepalive_seconds,
            )
            await runner.setup()
            assert runner.server is not None
            self.listener = Listener(
                runner.server,
                lambda: self.secured.tls,
                max_connections=self.settings.max_connections,
                max_client_connections=self.settings.max_client_connections,
            )
            await self.listener.start("127.0.0.1", 0)
            self.port = self.listener.addresses[0][1]
            self._started.set()
            await self._stop.wait()
            await self.listener.close()
            await runner.cleanup()
            await guard.close()

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connect(self, trust: ssl.SSLContext | None = None) -> HTTPConnection:
        context = trust or self.trust
        if context is None:
            return HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        return HTTPSConnection("127.0.0.1", self.port, timeout=SECONDS, context=context)

    def ask(
        self,
        path: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> Reply:
        connection = self.connect(trust)
        try:
            connection.request(method, path, body, dict(headers or {}))
            found = connection.getresponse()
            return Reply(found.status, dict(found.getheaders()), found.read())
        finally:
            connection.close()


def settings(**values: Any) -> Settings:
    return replace(
        Settings(), **{k: str(v) if isinstance(v, Path) else v for k, v in values.items()}
    )


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a directory."""

    directory: Path
    name: str = "ca"

    def __post_init__(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self._make(self.name, [], ["-addext", "basicConstraints=critical,CA:true"])

    @property
    def cert(self) -> Path:
        return self.directory / f"{self.name}.crt"

    def issue(self, name: str, *, san: str = "") -> tuple[Path, Path]:
        """(certificate, key) for a common name."""
        signer = ["-CA", str(self.cert), "-CAkey", str(self.cert.with_suffix(".key"))]
        more = ["-addext", f"subjectAltName={san}"] if san else []
        return self._make(name, signer, [*more, "-addext", "basicConstraints=CA:false"])

    def server(self) -> tuple[Path, Path]:
        return self.issue("localhost", san="IP:127.0.0.1,DNS:localhost")

    def trust(self, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.cert))
        if client is not None:
            context.load_cert_chain(*client)
        return context

    def _make(self, name: str, signer: list[str], more: list[str]) -> tuple[Path, Path]:
        cert, key = (self.directory / f"{name}.{end}" for end in ("crt", "key"))
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
                *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
                *("-keyout", str(key), "-out", str(cert), *signer, *more),
            ],
            check=True,
            capture_output=True,
        )
        return cert, key


def replace_files(pair: tuple[Path, Path], target: tuple[Path, Path]) -> None:
    """Put a certificate and its key in the place of others, by renames."""
    for source, path in zip(pair, target, strict=True):
        copy = path.with_suffix(".new")
        shutil.copy(source, copy)
        copy.rename(path)
