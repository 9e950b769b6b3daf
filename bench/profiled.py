"""The agent, with a record of which functions use the processor: `profiled.py OUT run ...`.

A thread looks at all others every few milliseconds and reads how much processor time each has used
since (`pthread_getcpuclockid`); the time counts for the innermost function of Airside that the
thread is in. OUT becomes a JSON object, function → seconds, written again and again. What was
recorded is forgotten once `OUT.begin` appears. The interpreter's lock makes the sampler late, so
that short functions get a share of their neighbours' time.
"""

import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

_PAUSE_SECONDS = 0.004
_WRITE_SECONDS = 0.2


class Sampler:
    """Samples until the process ends."""

    def __init__(self, out: Path) -> None:
        self._out, self._begin = out, out.with_name(f"{out.name}.begin")
        self._seen: dict[int, float] = {}
        self._seconds: Counter[str] = Counter()

    def run(self) -> None:
        due = 0.0
        while True:
            time.sleep(_PAUSE_SECONDS)
            self._sample()
            if time.monotonic() > due:
                due = time.monotonic() + _WRITE_SECONDS
                self._write()

    def _sample(self) -> None:
        own = threading.get_ident()
        for thread, frame in sys._current_frames().items():  # noqa: SLF001 - documented
            if thread != own:
                clock = time.pthread_getcpuclockid(thread)
                used = time.clock_gettime(clock)
                self._seconds[place_of(frame)] += used - self._seen.get(thread, used)
                self._seen[thread] = used

    def _write(self) -> None:
        if self._begin.exists():
            self._begin.unlink()
            self._seconds.clear()
        part = self._out.with_name(f"{self._out.name}.part")
        part.write_text(json.dumps({k: v for k, v in self._seconds.most_common() if v > 0}))
        part.replace(self._out)


def place_of(frame: FrameType) -> str:
    """Returns `room/module.function` of the innermost frame of Airside, else of the innermost."""
    found: FrameType | None = frame
    while found is not None and "/airside/" not in found.f_code.co_filename:
        found = found.f_back
    code = (found or frame).f_code
    file = code.co_filename.rpartition("/airside/")[2] if found else Path(code.co_filename).name
    return f"{file.removesuffix('.py')}.{code.co_name}"


def main() -> int:
    out = Path(sys.argv.pop(1))
    threading.Thread(target=Sampler(out).run, daemon=True).start()
    from airside.__main__ import main as program  # noqa: PLC0415 - sampled too

    return program()


if __name__ == "__main__":
    sys.exit(main())
