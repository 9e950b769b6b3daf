#!/usr/bin/env python3
"""Packs the Helm chart as `airside-chart-VERSION.tgz`, the same bytes each time.

`helm package` itself writes the time of day into the archive. Members are in Helm's order
(`Chart.yaml` first), have the time 0, the owner 0 and mode 0644.
"""

import argparse
import gzip
import io
import sys
import tarfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "packaging/helm/airside"
_FIRST = ("Chart.yaml", "values.yaml", "values.schema.json")


def chart_files(chart: Path = CHART) -> list[Path]:
    """Returns the files of the chart, in the order in which they are packed."""
    found = [p for p in chart.rglob("*") if p.is_file() and p.name[0] != "." and p.suffix != ".swp"]
    names = {path.relative_to(chart).as_posix(): path for path in found}
    return [names.pop(name) for name in _FIRST if name in names] + [
        names[name] for name in sorted(names)
    ]


def packed(chart: Path = CHART) -> bytes:
    """Returns the bytes of the packed chart."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in chart_files(chart):
            content = path.read_bytes()
            info = tarfile.TarInfo(f"{chart.name}/{path.relative_to(chart).as_posix()}")
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(tar.getvalue(), compresslevel=9, mtime=0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the directory to write to")
    out = parser.parse_args().out
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"airside-chart-{version}.tgz"
    target.write_bytes(packed())
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
