#!/bin/sh
# Fetches the page's library, pinned by package-lock.json, and puts it beside the page's own files.
# Runs no script of any package. Without it the page is whole, and refreshes more coarsely.
set -eu
cd "$(dirname "$0")"
assets=../src/airside/page/assets
command -v npm >/dev/null || { echo 'airside: npm is missing: scripts/setup-debian.sh test' >&2; exit 1; }
npm ci --ignore-scripts --no-audit --no-fund --fetch-retries=1 --fetch-timeout=20000 \
    --loglevel=error >/dev/null
cp node_modules/idiomorph/dist/idiomorph.min.js "$assets/.idiomorph.part"
mv "$assets/.idiomorph.part" "$assets/idiomorph.js"
