#!/bin/sh
# Install the system packages that rendering and the browser tests need, where that is possible without asking.
# Debian and Ubuntu as root: installed. Anyone else: named in one sentence.
set -eu

packages="curl openssl libegl1 libgl1 libgles2 libegl-mesa0 libgl1-mesa-dri libglib2.0-0 libxkbcommon0 libdbus-1-3 libfontconfig1 fonts-dejavu-core cmake chromium"

missing=""
for package in $packages; do
    # libglib2.0-0 became libglib2.0-0t64 in Debian 13 and Ubuntu 24.04, which provides the old name.
    if ! dpkg-query --show --showformat='${Status}\n' "$package" "${package}t64" 2>/dev/null | grep -q '^install ok installed'; then
        missing="$missing $package"
    fi
done

[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "Rendering and browser tests need EGL, OpenGL, xkbcommon, D-Bus, fontconfig, CMake and Chromium from your system's packages; without them they are skipped."
elif [ "$(id -u)" -ne 0 ]; then
    echo "Rendering and browser tests need these system packages; install them with: sudo apt-get install$missing"
else
    echo "Installing system packages:$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # Package names differ between releases; one that is not there must not keep the others away.
    for package in $missing; do
        apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 \
            || apt-get install -y -qq --no-install-recommends "${package}t64" >/dev/null 2>&1 \
            || echo "The package $package could not be installed; tests that need it are skipped."
    done
fi
