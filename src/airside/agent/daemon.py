"""The agent: the only wiring. It opens the data directory, then serves, watches and repairs.

One `asyncio.TaskGroup` holds every long-lived service. SIGTERM and SIGINT end it; a stop that
takes longer than `stop_seconds` is forced, which is safe: what is on disk is right at any moment
(design 4.4).
"""

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from airside import __version__
from airside.agent.control import create_control
from airside.agent.import_queue import LISTS_AT_ONCE, ImportQueue
from airside.agent.memory import give_back, keep_together
from airside.agent.node import Node, open_node
from airside.agent.runtime_connections import check_names, connect
from airside.agent.runtime_supervisor import RuntimeSupervisor
from airside.agent.scrub_scheduler import ScrubScheduler
from airside.agent.watchdog import Watchdog
from airside.archive.stat_key import StatKey
from airside.containerd.sockets import find_sockets
from airside.core.config import EffectiveSettings, default_directories, parse_listen
from airside.core.errors import AirsideError, StoreError
from airside.core.logs import set_up_logs
from airside.core.settings import KIB, Settings
from airside.diagnostics.reports import space_report
from airside.importer.watch.directories import WatchedDirectories
from airside.importer.watch.mount_table import Remembered, from_text, to_text
from airside.importer.watch.watcher import Watcher
from airside.registry.auth.files import SecurityFiles, open_security_files
from airside.registry.http.app import create_app
from airside.registry.http.deadline import DeadlinePool
from airside.registry.http.listener import Listener
from airside.registry.http.malformed import give_targets, http_log
from airside.registry.http.middleware import AccessGuard
from airside.registry.http.receive import Receiver
from airside.registry.http.served_content import ServedContent
from airside.registry.proxy.pull_through import PullThrough

log = logging.getLogger("airside.agent")

SOCKET = "airside.sock"
_READ_THREADS = 4
_PUSH_THREADS = 32
_FETCH_THREADS = 8
_PUSH_INDEX_SECONDS = 1.0
"""`index.json` is written so often at most for pushes."""
_SWEEP_SECONDS = 60.0
_BODY_BYTES = 256 * KIB
"""What of a body is received ahead of what is written."""
_SOCKET_MODE = 0o660
_CLEANUP_SECONDS = 1.0
_KEEPALIVE_SECONDS = 75.0
_REREAD_SECONDS = 2.0
_GIVE_BACK_SECONDS = 5.0
_MOUNTS = "mounts"
_NOT_JUDGED = StatKey(0, 0, 0, 0)


def run_agent(effective: EffectiveSettings) -> int:
    """Run until SIGTERM or SIGINT; gives the exit code. Raises AirsideError at start."""
    settings = effective.settings
    set_up_logs(form=settings.log_format, level=settings.log_level)
    check_names(settings)
    keep_together()
    _make_default_directory(settings)
    try:
        with open_node(settings) as node:
            return asyncio.run(_Agent(settings, node).run())
    except* AirsideError as group:
        raise _first(group) from None


def _first(group: BaseExceptionGroup[AirsideError]) -> AirsideError:
    found: Any = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, AirsideError)
    return found


def _make_default_directory(settings: Settings) -> None:
    """Make the default watched directory; one that the user named may come later."""
    default = default_directories()[0]
    if any(directory.path == default for directory in settings.images):
        with suppress(OSError):
            default.mkdir(parents=True, exist_ok=True)


class _Agent:
    def __init__(self, settings: Settings, node: Node) -> None:
        self._settings, self._node = settings, node
        self._places = WatchedDirectories(settings.images)
        self._started_at = time.monotonic()
        self._stop = asyncio.Event()
        self._imports = ThreadPoolExecutor(settings.parallel_imports, "imports")
        self._lists = ThreadPoolExecutor(LISTS_AT_ONCE, "lists")
        self._reads = ThreadPoolExecutor(_READ_THREADS, "reads")
        self._by_hand = ThreadPoolExecutor(1, "imports-by-hand")
        self._pushes = ThreadPoolExecutor(_PUSH_THREADS, "pushes")
        self._fetches = ThreadPoolExecutor(_FETCH_THREADS, "fetches")
        self._pushed = asyncio.Event()
        self._listen: str | None = None
        self._secured: SecurityFiles | None = None
        self._queue: ImportQueue
        self._scrubber: ScrubScheduler
        self._watcher: Watcher
        self._runtimes: RuntimeSupervisor

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop, signal.Signals(number).name)
        known = await self._known()
        self._watcher = Watcher(
            self._settings.images,
            self._settings,
            known,
            mounted=from_text(self._node.catalog.meta(_MOUNTS) or "{}"),
            on_mounts=self._remember_mounts,
        )
        self._queue = ImportQueue(
            self._node,
            self._settings,
            self._imports,
            lists=self._lists,
            look_again=self._watcher.look_again,
            doubtful=await asyncio.to_thread(_doubtful, known, self._places),
        )
        self._node.index_outdated.subscribe(partial(_set_soon, loop, self._pushed))
        self._scrubber = ScrubScheduler(self._node, self._settings, self._queue)
        self._runtimes = RuntimeSupervisor(
            self._node,
            self._settings,
            partial(_sockets, self._settings),
            partial(connect, self._node),
            self._connected,
        )
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self._registry())
                await stack.enter_async_context(self._control())
                self._say_ready()
                await self._serve()
        finally:
            self._queue.stop()
            await asyncio.to_thread(self._scrubber.close)
            pools = (self._imports, self._lists, self._by_hand, self._reads, self._pushes)
            for pool in (*pools, self._fetches):
                await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)
            self._node.pusher.uploads.close()
            await asyncio.to_thread(self._node.importer.write_index)
        log.info("stopped")
        return 0

    async def _serve(self) -> None:
        """Run the services until one fails or a stop is asked for."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._queue.run()),
                group.create_task(self._watcher.run(self._queue.take)),
                group.create_task(self._reconcile()),
                group.create_task(self._runtimes.run()),
                group.create_task(self._keep_index()),
                group.create_task(self._sweep_uploads()),
                group.create_task(self._scrubber.run()),
                group.create_task(self._reread()),
                group.create_task(self._give_back()),
            ]
            await self._stop.wait()
            for task in tasks:
                task.cancel()

    def _asked_to_stop(self, name: str) -> None:
        if self._stop.is_set():
            return
        log.info("%s: stopping", name)
        self._stop.set()
        self._queue.stop()
        self._scrubber.stop()
        self._runtimes.stop()
        watchdog = threading.Timer(self._settings.stop_seconds, _force_stop)
        watchdog.daemon = True
        watchdog.start()

    async def _connected(self) -> None:
        """A runtime is connected: it may lack what lists name, and have what we lost."""
        await self._scrubber.runtime_changed()
        await self._queue.runtime_changed()

    async def _known(self) -> dict[Path, StatKey]:
        """The archives of the catalog that are watched. Others wait; their images stay."""
        known: dict[Path, StatKey] = {}
        for text, key in self._node.catalog.known().items():
            path = Path(text)
            if self._places.owner(path) is not None:
                known[path] = StatKey.parse(key) if key else _NOT_JUDGED
            else:
                await asyncio.to_thread(self._unwatched, text)
        return known

    async def _remember_mounts(self, mounted: Remembered) -> None:
        """So that what is on an unmounted file system is not taken for removed after a restart."""
        try:
            await asyncio.to_thread(self._node.catalog.set_meta, {_MOUNTS: to_text(mounted)})
        except StoreError as exc:
            log.warning("where archives are mounted could not be recorded: %s", exc.message)

    def _unwatched(self, path: str) -> None:
        for row in self._node.catalog.sources(path=path):
            reason = "its directory is not watched any more; its images stay"
            self._node.catalog.source_states.set_state(
                row.id, "waiting", self._node.clock(), reason=reason
            )

    async def _reconcile(self) -> None:
        """Repair what differs, now and then; what is to be read again is queued."""
        for source_id, path in await asyncio.to_thread(self._node.imports.unread):
            if self._places.owner(path) is None:
                await self._queue.submit_path(source_id, path)
        while True:
            await asyncio.sleep(self._settings.reconcile_seconds)
            try:
                for source_id, path in await asyncio.to_thread(self._node.reconcile):
                    await self._queue.submit_path(source_id, path)
            except StoreError as exc:
                log.warning("self-repair: %s; it is tried again", exc.message)

    async def _keep_index(self) -> None:
        """Bring `index.json` up to date after pushes."""
        while True:
            await self._pushed.wait()
            self._pushed.clear()
            await asyncio.to_thread(self._node.importer.write_index)
            await asyncio.sleep(_PUSH_INDEX_SECONDS)

    async def _sweep_uploads(self) -> None:
        """Give up uploads that nobody goes on with."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            swept = await asyncio.to_thread(self._node.pusher.uploads.sweep)
            if swept:
                log.info("%d uploads were idle for too long: given up", swept)

    async def _give_back(self) -> None:
        """Give memory back a while after something was done, and nothing is read."""
        given: tuple[int, int] | None = None
        while True:
            await asyncio.sleep(_GIVE_BACK_SECONDS)
            done = (self._node.catalog.generation, self._runtimes.passes)
            if done != given and not self._queue.running:
                given = done
                await asyncio.to_thread(give_back)

    @asynccontextmanager
    async def _registry(self) -> AsyncIterator[None]:
        """Serve the registry on the configured address, if there is one."""
        if not self._settings.listen:
            yield
            return
        async with AsyncExitStack() as stack:
            pull_through = None
            if self._settings.upstream and not self._settings.offline:
                pull_through = PullThrough(self._settings, self._node.cache_writer, self._fetches)
                await stack.enter_async_context(pull_through)
                using = asyncio.create_task(pull_through.run())
                stack.callback(using.cancel)
            await stack.enter_async_context(self._serve_registry(pull_through))
            yield

    @asynccontextmanager
    async def _serve_registry(self, pull_through: PullThrough | None) -> AsyncIterator[None]:
        host, port = parse_listen(self._settings.listen)
        secured = await asyncio.to_thread(open_security_files, self._settings, host)
        guard = AccessGuard(
            self._node.catalog, lambda: secured.accounts, self._settings, self._reads
        )
        content = ServedContent(
            self._node.catalog,
            self._node.store,
            self._settings.default_registry,
            self._node.read_through,
            pull_through,
        )
        app = create_app(
            content,
            DeadlinePool(self._reads, self._settings.answer_seconds),
            receiver=Receiver(
                self._node.pusher, self._pushes, self._settings.limits.document_bytes
            ),
            guard=guard,
        )
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=http_log(),
            shutdown_timeout=_CLEANUP_SECONDS,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            read_bufsize=_BODY_BYTES,
        )
        await runner.setup()
        assert runner.server is not None
        give_targets(runner.server)
        listener = Listener(
            runner.server,
            lambda: secured.tls,
            max_connections=self._settings.max_connections,
            max_client_connections=self._settings.max_client_connections,
        )
        try:
            await listener.start(host, port)
            self._listen, self._secured = _address(listener.addresses[0]), secured
            async with self._beating(listener.sockets, tls=secured.tls is not None):
                yield
        finally:
            await listener.close()
            await runner.cleanup()
            await asyncio.to_thread(guard.close)

    async def _reread(self) -> None:
        """Take up changed certificates, passwords and rules."""
        while self._secured is not None and self._secured.has_files:
            await asyncio.sleep(_REREAD_SECONDS)
            await asyncio.to_thread(self._secured.reload)

    @asynccontextmanager
    async def _beating(self, sockets: Sequence[socket.socket], *, tls: bool) -> AsyncIterator[None]:
        """Have somebody answer in our place if we hang."""
        seconds = self._settings.answer_seconds
        if not seconds:
            yield
            return
        beating = asyncio.create_task(Watchdog(sockets, seconds, tls=tls).run())
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.wait([beating])

    @asynccontextmanager
    async def _control(self) -> AsyncIterator[None]:
        """Serve the control socket."""
        app = create_control(
            self._node,
            self._live,
            reads=self._reads,
            imports=self._by_hand,
            published=self._runtimes.settled,
            verify=self._scrubber.verify,
            contents=self._node.runtimes.contents_by_socket,
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLEANUP_SECONDS)
        await runner.setup()
        path = self._settings.data / SOCKET
        try:
            with _short_path(path) as short:
                short.unlink(missing_ok=True)
                await web.UnixSite(runner, str(short)).start()
                short.chmod(_SOCKET_MODE)
            yield
        finally:
            await runner.cleanup()
            path.unlink(missing_ok=True)

    def _say_ready(self) -> None:
        where = ", ".join(str(d.path) for d in self._settings.images)
        log.info("airside %s ready in %.2f s", __version__, _process_seconds())
        log.info("watching %s", where)
        if self._listen is not None:
            has_tls = self._secured is not None and self._secured.tls is not None
            log.info("registry at %s://%s", "https" if has_tls else "http", self._listen)
            if not has_tls and not self._listen.startswith(("127.", "[::1]")):
                log.warning("the registry is open to the network without TLS: insecure = true")

    def _live(self) -> dict[str, Any]:
        """What only the running agent knows, for `status`."""
        return {
            "running": True,
            "pid": os.getpid(),
            "data": str(self._settings.data),
            "listen": self._listen,
            "access": None if self._secured is None else self._secured.describe(),
            "read_through": self._settings.read_through,
            "uptime_seconds": round(time.monotonic() - self._started_at, 1),
            "directories": [
                {"path": str(d.path), "mode": d.mode, "reason": d.reason, "files": d.files}
                for d in self._watcher.describe()
            ],
            "runtimes": self._runtimes.describe(),
            "imports": [
                {
                    "path": str(path),
                    "done_bytes": r.done_bytes,
                    "total_bytes": r.total_bytes,
                    "rate_bytes_per_second": round(
                        r.done_bytes / max(time.monotonic() - r.started_at, 0.001)
                    ),
                }
                for path, r in self._queue.running.items()
            ],
            "space": space_report(self._node.garbage.space()),
        }


def _set_soon(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    """Set an event from another thread."""
    loop.call_soon_threadsafe(event.set)


def _sockets(settings: Settings) -> list[str]:
    return find_sockets(settings.runtime)


def _process_seconds() -> float:
    """How long this process has been running, the loading of Python's modules included."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _doubtful(known: Iterable[Path], places: WatchedDirectories) -> frozenset[Path]:
    """The known archives of directories that are empty or gone now: perhaps not mounted."""
    empty: dict[Path, bool] = {}
    doubtful = set()
    for path in known:
        owner = places.owner(path)
        if owner is None:
            continue
        here = path.parent
        while here != owner.path and not here.is_dir():
            here = here.parent
        if here not in empty:
            empty[here] = _is_empty(here)
        if empty[here] or here != path.parent:
            doubtful.add(path)
    for directory in sorted(d for d, is_empty in empty.items() if is_empty):
        log.warning(
            "%s is empty, though archives of it are known: is its file system mounted? "
            "Their images stay for now",
            directory,
        )
    return frozenset(doubtful)


def _is_empty(directory: Path) -> bool:
    try:
        return not any(directory.iterdir())
    except OSError:
        return False


def _address(found: tuple[str, int]) -> str:
    host, port = found
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def _short_path(path: Path) -> Iterator[Path]:
    """A path to the same file that fits into a socket address (107 bytes)."""
    if len(os.fsencode(path)) <= 107:
        yield path
        return
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}/{path.name}")
    finally:
        os.close(descriptor)


def _force_stop() -> None:
    log.warning("the stop takes too long: forced; the next start checks what was written last")
    logging.shutdown()
    os._exit(1)
