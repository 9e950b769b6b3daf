"""Makes the index of a layer's tar, by mkfs.erofs in a process that can do nothing else.

The options are those of containerd's differ (`--tar=i --aufs`), so that whiteouts have the form of
overlayfs. What always holds for the process, whose input is a stranger's:

- It is `nobody` without any capability, gains none by a program that it starts, and has no network
  where we may make one of its own (CAP_SYS_ADMIN).
- It reads the tar, which it cannot change, and writes the index into memory of ours; no file system
  is open to it but as `nobody`.
- Processor time, memory and the length of the index are limited.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from airside.containerd.layer_writer import confinement
from airside.core.errors import LayerRefusedError, StoppedError, UnusualLayerError
from airside.core.settings import GIB, MIB

Stop = Callable[[], bool]

NOBODY = 65534
_AS_NOBODY = (
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    "--inh-caps=-all",
    "--no-new-privs",
)
"""Of util-linux. Popen's own `user` would fork this process, which gRPC is in the way of."""
_LOOK_SECONDS = 0.1
_MESSAGE_BYTES = 500
_LIMITED = (
    "ulimit -c 0; ulimit -f {blocks}; ulimit -v {kibibytes}; "
    "ulimit -S -t {processor_seconds}; ulimit -H -t {most_seconds}; "
    'exec "$0" "$@"'
)


@dataclass(frozen=True, slots=True)
class IndexLimits:
    """What the index of one layer may take. A layer that takes more is refused."""

    members: int = 4_000_000
    processor_seconds: int = 120
    memory_bytes: int = GIB
    """Address space, beyond that of threads: some 700 bytes for each member."""
    memory_bytes_per_processor: int = 80 * MIB
    """mkfs.erofs has as many threads; the address space of a stack and a heap."""
    index_bytes: int = 256 * MIB
    """Some 130 bytes for each member."""


def make_index(
    program: str, tar: BinaryIO, uuid: str, limits: IndexLimits, stop: Stop
) -> bytearray:
    """Returns the index of a tar.

    Raises UnusualLayerError with what mkfs.erofs says, LayerRefusedError if a limit is broken,
    StoppedError.
    """
    number = os.memfd_create("layer-index", os.MFD_CLOEXEC)
    with (
        open(number, "r+b", buffering=0),  # noqa: PTH123 - a descriptor
        _opened_to_read(tar) as source,
    ):
        command = _command(program, uuid, f"/proc/self/fd/{number}", limits)
        _run(command, source, number, stop)
        found = bytearray(os.fstat(number).st_size)
        os.preadv(number, [found], 0)
    return found


def _opened_to_read(tar: BinaryIO) -> BinaryIO:
    """Opens a tar anew, from its begin: ours may be open for writing, and its bytes are hashed."""
    try:
        return open(f"/proc/self/fd/{tar.fileno()}", "rb", buffering=0)  # noqa: PTH123 - as above
    except OSError as exc:
        raise UnusualLayerError(f"the tar cannot be opened again: {exc.strerror}") from exc


def _command(program: str, uuid: str, target: str, limits: IndexLimits) -> list[str]:
    memory_bytes = limits.memory_bytes_per_processor * (os.cpu_count() or 1) + limits.memory_bytes
    limited = _LIMITED.format(
        processor_seconds=limits.processor_seconds,
        most_seconds=limits.processor_seconds + 1,  # before that SIGXCPU, which tells why
        blocks=limits.index_bytes // 512,
        kibibytes=memory_bytes // 1024,
    )
    # a compact inode has no room for the time and the owner of a directory of a layer below
    options = ("--tar=i", "--aufs", "--quiet", "-Eforce-inode-extended", "-U", uuid)
    return [*_AS_NOBODY, "/bin/sh", "-c", limited, program, *options, target]


def _run(command: list[str], tar: BinaryIO, number: int, stop: Stop) -> None:
    process = _started(command, tar, number)
    with process:
        while True:
            try:
                _, said = process.communicate(timeout=_LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if stop():
                    with suppress(PermissionError):  # without CAP_KILL; its limits end it
                        process.kill()
                    raise StoppedError("stopped while a layer was indexed") from None
    if process.returncode:
        _refuse(process.returncode, said[-_MESSAGE_BYTES:].decode("utf-8", "replace").strip())


def _started(command: list[str], tar: BinaryIO, number: int) -> "subprocess.Popen[bytes]":
    """Starts a process from a thread that has no network to give."""
    made: list[subprocess.Popen[bytes]] = []
    failed: list[Exception] = []

    def start() -> None:
        with suppress(OSError):  # not permitted in some containers
            confinement.leave_network()
        try:
            made.append(_popen(command, tar, number))
        except (OSError, ValueError, subprocess.SubprocessError) as exc:
            failed.append(exc)

    thread = threading.Thread(target=start, name="start-mkfs")
    thread.start()
    thread.join()
    for exc in failed:
        raise UnusualLayerError(f"mkfs.erofs cannot be started: {exc}") from exc
    return made[0]


def _popen(command: list[str], tar: BinaryIO, number: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        stdin=tar,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=(number,),
        cwd="/",
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
    )


def _refuse(code: int, said: str) -> None:
    """Raises the error of a process that failed; `said` has a stranger's words."""
    broken = {-signal.SIGXFSZ: "a longer index", -signal.SIGXCPU: "more processor time"}.get(code)
    if broken is None and ("Cannot allocate memory" in said or "ENOMEM" in said):
        broken = "more memory"
    if broken is not None:
        raise LayerRefusedError(f"mkfs.erofs needs {broken} for the layer than it may take")
    raise UnusualLayerError(f"mkfs.erofs ended with {code}: {said or 'without a word'}")
