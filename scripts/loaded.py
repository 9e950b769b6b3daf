#!/usr/bin/env python3
"""Run a command while the machine is busy.

    scripts/loaded.py [--load N] [--times N] COMMAND...

Processes of its own use the processors, and one writes and syncs, so that as many processes as
`--load` says want to run at any moment (default: four times the processors), the command's own
included. The load is printed every half minute. Ends with the command's exit code; runs `--times`
times, and stops at the first failure. It ends only what it has started.
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import Process
from pathlib import Path
from statistics import median
from typing import Self

STEP_SECONDS = 0.2
SHOW_SECONDS = 30.0
_BLOCK = bytes(1 << 20)


def burn() -> None:
    """Use one processor until it is ended."""
    while os.getppid() != 1:
        for _ in range(20):
            hashlib.sha256(_BLOCK)


def write() -> None:
    """Write and sync a file again and again until it is ended."""
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        while os.getppid() != 1:
            file.seek(0)
            file.write(_BLOCK)
            file.flush()
            os.fsync(file.fileno())
            time.sleep(0.02)


def running() -> int:
    """How many processes run or want to."""
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("procs_running"))


class Load:
    """Keeps `target` processes running, by stopping and continuing its own."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._own = [Process(target=burn, daemon=True) for _ in range(target)]
        self._writer = Process(target=write, daemon=True)
        self._awake = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self.seen: list[float] = []

    def __enter__(self) -> Self:
        self._writer.start()
        for process in self._own:
            process.start()
            os.kill(process.pid or 0, signal.SIGSTOP)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        for process in (*self._own, self._writer):
            process.kill()
            process.join()

    def _keep(self) -> None:
        smooth, shown_at = float(self._target), time.monotonic()
        while not self._end.wait(STEP_SECONDS):
            now = running() - 1  # this thread
            self.seen.append(now)
            smooth += (now - smooth) * 0.2
            if smooth < self._target - 0.5 and self._awake < len(self._own):
                os.kill(self._own[self._awake].pid or 0, signal.SIGCONT)
                self._awake += 1
            elif smooth > self._target + 0.5 and self._awake:
                self._awake -= 1
                os.kill(self._own[self._awake].pid or 0, signal.SIGSTOP)
            if time.monotonic() - shown_at > SHOW_SECONDS:
                shown_at = time.monotonic()
                print(f"loaded: {self.told()}", file=sys.stderr, flush=True)

    def told(self) -> str:
        """The load so far, for a person."""
        average = os.getloadavg()
        return (
            f"load {average[0]:.1f} (1 min) {average[1]:.1f} (5 min); processes that want to run: "
            f"median {median(self.seen or [0]):.0f}, wanted {self._target}"
        )


def main() -> int:
    """Run the command under load."""
    processors = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--load", type=int, default=4 * processors)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    for number in range(1, given.times + 1):
        started = time.monotonic()
        with Load(given.load) as load:
            code = subprocess.call(given.command)
            told = load.told()
        seconds = time.monotonic() - started
        print(f"loaded: run {number}: exit code {code} after {seconds:.0f} s; {told}", flush=True)
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
