"""Runs the fuzz targets for a time, one after another, and reports findings.

python -m fuzz [--seconds N] [TARGET...]     fuzz; exit status 1 on a finding
python -m fuzz --replay TARGET FILE...       run inputs through a target, without the fuzzer
python -m fuzz --keep TARGET FILE            print it as a line for test_fuzz_findings.py
"""

import argparse
import base64
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).parent.parent
WORK = ROOT / ".fuzz"
MEMORY_MB = 1500
INPUT_SECONDS = 20
"""One input that takes longer is a finding."""
GRACE_SECONDS = 60
MOST_SECONDS = 24 * 3600
sys.path[:0] = [str(ROOT / "tests")]


def main() -> int:
    args = _arguments()
    if args.keep:
        name, file = args.targets
        print(_line(name, Path(file).read_bytes()))
        return 0
    if args.replay:
        return _replay(args.targets[0], args.targets[1:])
    if importlib.util.find_spec("atheris") is None:
        print("fuzz: atheris is not installed; it has wheels for x86-64 only", file=sys.stderr)
        return 2
    from fuzz.targets import TARGETS  # noqa: PLC0415 - not needed for the message above

    unknown = set(args.targets) - TARGETS.keys()
    if unknown:
        print(f"fuzz: no target {min(unknown)!r}; known: {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    failed = [name for name in args.targets or TARGETS if not _run(name, args.seconds)]
    if failed:
        print(f"fuzz: findings in {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz Airside's readers.")
    parser.add_argument("--seconds", type=_seconds, default=60, help="seconds for each target")
    parser.add_argument("--replay", action="store_true", help="TARGET FILE...: run these inputs")
    parser.add_argument("--keep", action="store_true", help="TARGET FILE: print it as a test")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    args = parser.parse_args()
    if (args.keep and len(args.targets) != 2) or (args.replay and len(args.targets) < 2):
        parser.error("--keep needs TARGET FILE, --replay TARGET FILE...")
    return args


def _seconds(text: str) -> int:
    seconds = int(text)
    if not 1 <= seconds <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"from 1 to {MOST_SECONDS}")
    return seconds


def _line(name: str, data: bytes) -> str:
    packed = base64.b85encode(zlib.compress(data, 9)).decode()
    return f'    ("{name}", "what it was", packed("{packed}")),'


def _replay(name: str, files: list[str]) -> int:
    from fuzz.targets import TARGETS  # noqa: PLC0415

    for file in files:
        TARGETS[name].check(Path(file).read_bytes())
        print(f"fuzz: {file}: nothing found")
    return 0


def _run(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own. Returns False if it found something."""
    seeds, corpus, found = WORK / "seeds" / name, WORK / "corpus" / name, WORK / "found"
    for path in (seeds, corpus, found):
        path.mkdir(parents=True, exist_ok=True)
    _write_seeds(name, seeds)
    options = [
        f"-max_total_time={seconds}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-timeout={INPUT_SECONDS}",
        f"-artifact_prefix={found}/{name}-",
        "-print_final_stats=1",
    ]
    started = time.monotonic()
    status, text = _child([name, str(corpus), str(seeds), *options], seconds)
    count, took = max(_counts(text), default=0), time.monotonic() - started
    print(f"fuzz: {name}: {count} inputs in {took:.0f} s", flush=True)
    if status:
        _report(name, text, status)
    return status == 0


def _child(arguments: list[str], seconds: int) -> tuple[int, str]:
    """Returns (exit status, output) of the child; GRACE_SECONDS are for its start and end."""
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    log = WORK / f"{arguments[0]}.log"
    with log.open("wb") as out, tempfile.TemporaryDirectory(prefix="airside-fuzz-") as scratch:
        environment["TMPDIR"] = scratch  # libFuzzer exits without running Python's cleanup
        try:
            status = subprocess.run(
                [sys.executable, "-m", "fuzz.child", *arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=seconds + GRACE_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
    return status, log.read_text(errors="replace")


def _counts(text: str) -> list[int]:
    return [
        int(n) for n in re.findall(r"^#(\d+)\s|^Done (\d+) ", text, re.MULTILINE) for n in n if n
    ]


def _write_seeds(name: str, directory: Path) -> None:
    from fuzz.targets import TARGETS  # noqa: PLC0415

    for path in directory.iterdir():
        path.unlink()
    for data in TARGETS[name].seeds():
        (directory / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def _report(name: str, text: str, status: int) -> None:
    files = [Path(file) for file in re.findall(r"Test unit written to (.+)$", text, re.MULTILINE)]
    lines = text.splitlines()
    start = next(
        (n for n, line in enumerate(lines) if "exception:" in line or "ERROR:" in line), -15
    )
    print(f"fuzz: {name}: FOUND (exit status {status})")
    print("\n".join(f"  {line}" for line in lines[start : start + 40]))
    python = Path(sys.executable)
    python = python.relative_to(ROOT) if python.is_relative_to(ROOT) else python
    for file in files:
        shown = file.relative_to(ROOT)
        print(f"  written:    {shown}")
        print(f"  reproduce:  {python} -m fuzz --replay {name} {shown}")
        print(f"  as a test:  {python} -m fuzz --keep {name} {shown}")
        print("              and put that line into tests/unit/archive/test_fuzz_findings.py")
    if not files:
        print(f"  no input was written: see {(WORK / name).relative_to(ROOT)}.log")


if __name__ == "__main__":
    sys.exit(main())
