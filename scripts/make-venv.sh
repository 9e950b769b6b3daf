#!/bin/sh
# Make an environment in .venv, or in the directory given, or say exactly what is missing. One that
# does not work is made again.
set -eu
cd "$(dirname "$0")/.."
venv=${1:-.venv}
if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi

if ! python=$(scripts/find-python.sh); then
    cat >&2 <<TEXT
airside: Python 3.11 or later is needed, found: $(python3 --version 2>&1 || echo none).
  Debian 12 or later, Ubuntu 24.04 or later:  apt-get install python3 python3-venv
  Ubuntu 22.04:                               apt-get install python3.11 python3.11-venv
  Fedora, RHEL 9:                             dnf install python3.11
  Then run make again; PYTHON=/path/to/python3.11 chooses another interpreter.
TEXT
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    cat >&2 <<TEXT
airside: $python cannot make virtual environments. As root:
  apt-get install python$version-venv
  Then run make again.
TEXT
    exit 1
fi
"$python" -m venv --clear "$venv"
