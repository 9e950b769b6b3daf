#!/bin/sh
# Make requirements.lock (what the agent needs, and the build tools), requirements-dev.lock (the
# tools of `make test` on top), requirements-fuzz.lock (those of `make fuzz` alone),
# requirements-dist.lock (of `make dist`) and requirements-docs.lock (of `make docs`) from
# pyproject.toml. Run it as `make lock`.
#
# Hashes of every wheel of a release go in, so one lock serves x86-64 and aarch64. Where the
# packages come from is the business of the machine: no address goes in.
# LOCK_WITH names a pip-compile; without it pip-tools goes into a throw-away environment.
set -eu
cd "$(dirname "$0")/.."

pip_compile=${LOCK_WITH:-}
if [ -z "$pip_compile" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    "${PYTHON:-python3}" -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet 'pip-tools>=7.5'
    pip_compile=$work/venv/bin/pip-compile
fi

group() {
    "${PYTHON:-python3}" -c 'import sys, tomllib
groups = tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]
print(*groups[sys.argv[1]], sep="\n")' "$1"
}

compile() {
    CUSTOM_COMPILE_COMMAND='make lock' "$pip_compile" --quiet --generate-hashes --strip-extras \
        --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
        --no-emit-options --annotation-style line --upgrade "$@" pyproject.toml -
}

group build | compile --output-file requirements.lock
# pip counts coverage[toml], which pytest-cov asks for, as pinned only with its extra
group dev | compile --no-strip-extras --constraint requirements.lock \
    --output-file requirements-dev.lock
for extra in fuzz dist docs; do
    group "$extra" | compile --constraint requirements.lock --output-file "requirements-$extra.lock"
done

if grep -nE '://|^--(index|extra|find|trusted)|(^|[ =])/' requirements*.lock; then
    echo "lock: an address or a path of this machine is in the lock files, see above" >&2
    exit 1
fi
