#!/bin/sh
# Install a C compiler and Python's headers, for packages that a lab adds and that come as source only.
# Works on the official Python images, which hold the headers, and on Debian's own Python, which does not.
set -eu
. /build/docker/site.sh

packages=""
command -v gcc >/dev/null || packages="gcc libc6-dev"
headers=$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -e "$headers/Python.h" ] || packages="$packages lib$(basename "$headers")-dev"
[ -n "$packages" ] || exit 0

# A mirror that a lab froze is older than its Release file allows; the signature is still checked.
set -- -q -o Acquire::Retries=3 -o Acquire::Check-Valid-Until=false
if [ -n "${SSL_CERT_FILE:-}" ]; then
    set -- "$@" -o Acquire::https::CaInfo="$SSL_CERT_FILE"
fi
if [ -s "$site/debian-mirror" ]; then
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    key=/usr/share/keyrings/debian-archive-keyring
    [ -e "$key.gpg" ] && key=$key.gpg || key=$key.pgp
    echo "deb [signed-by=$key] $(head -n 1 "$site/debian-mirror") $suite main" > /tmp/site.list
    set -- "$@" -o Dir::Etc::SourceList=/tmp/site.list -o Dir::Etc::SourceParts=/dev/null
fi

export DEBIAN_FRONTEND=noninteractive
apt-get "$@" update
# Nothing of this stage is kept, so that neither its documentation nor its safety from a power cut matters.
# shellcheck disable=SC2086 # the packages are several words
apt-get "$@" install -y --no-install-recommends \
    -o Dpkg::Options::=--force-unsafe-io \
    -o Dpkg::Options::=--path-exclude=/usr/share/doc/* \
    -o Dpkg::Options::=--path-exclude=/usr/share/locale/* \
    -o Dpkg::Options::=--path-exclude=/usr/share/man/* \
    $packages
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb
