#!/usr/bin/env bash
# Puts a Chromium on this machine for `pytest -m browser`; does nothing where there is one.
set -euo pipefail

python=${PYTHON:-python}

for candidate in "${CHROMIUM:-}" chromium chromium-browser google-chrome; do
    if [ -n "$candidate" ] && found=$(command -v "$candidate"); then
        echo "$found"
        exit 0
    fi
done

bundled=$("$python" -c 'from playwright.sync_api import sync_playwright as p
with p() as browsers: print(browsers.chromium.executable_path)' 2>/dev/null || true)
if [ -n "$bundled" ] && [ -x "$bundled" ]; then
    echo "$bundled"
    exit 0
fi

# Ubuntu's package only sends for a snap, which does not run in a container; Debian's is the browser itself.
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && grep -qx 'ID=debian' /etc/os-release; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-liberation
    command -v chromium
    exit 0
fi

options=()
if [ "$(id -u)" = 0 ]; then
    options+=(--with-deps)
fi
"$python" -m playwright install "${options[@]}" chromium
