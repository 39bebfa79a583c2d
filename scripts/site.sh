# Sourced by the scripts beside it: which Pythons there are, and what this site has told pip.
# shellcheck shell=bash

say() { printf '%s\n' "==> $*" >&2; }

is_root_on_debian() { [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null; }

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update >&2 && apt-get -qq install -y --no-install-recommends "$@" >&2
}

# Version of an interpreter ("3.14"), or nothing where it does not run: the shims of pyenv exist for every
# version and run for few, so a name on PATH proves nothing.
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

# The interpreter itself in place of a shim, which could mean another version in another folder.
path_of() { "$1" -c 'import sys; print(sys.executable)'; }

# Print the first interpreter of one version: on PATH, pyenv's, or one that uv installed earlier.
find_python() {
    local version=$1 candidate
    for candidate in "python$version" \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version"*/bin/"python$version" \
        "${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/uv/python}"/cpython-"$version"*/bin/"python$version"; do
        if [ "$(version_of "$candidate")" = "$version" ]; then
            path_of "$candidate"
            return 0
        fi
    done
    return 1
}

# Print the first interpreter of which an expression is true, newest first; any Python 3.9 will do to run pip.
find_any() {
    local expression=$1 version candidate
    for version in 3.14 3.13 3.12 3.11 3.10 3.9; do
        if candidate=$(find_python "$version") && "$candidate" -c "$expression" 2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    candidate=$(command -v python3) && "$candidate" -c "$expression" 2>/dev/null && path_of "$candidate"
}

# What pip has been told about this site holds for uv too; uv's own settings win. Values may hold credentials: they
# go into the environment of uv and are never printed.
follow_pip() {
    local python value
    export PIP_ROOT_USER_ACTION=ignore
    # An authority that was added to the system's (a proxy's, a mirror's) is one that pip follows; uv has to be told.
    if [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ]; then
        export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true}
    fi
    python=$(find_any 'import pip') || return 0
    # The environment first, as pip has it; "get" knows the files only.
    pip_setting() {
        local variable section
        variable=PIP_$(tr a-z- A-Z_ <<< "$1")
        if [ -n "${!variable:-}" ]; then
            echo "${!variable}" | xargs
            return 0
        fi
        for section in install global; do
            "$python" -m pip config get "$section.$1" 2>/dev/null | xargs && return 0
        done
        return 0
    }
    if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
        value=$(pip_setting index-url)
        [ -z "$value" ] || export UV_DEFAULT_INDEX="$value"
    fi
    if [ -z "${UV_INDEX:-}${UV_EXTRA_INDEX_URL:-}" ]; then
        value=$(pip_setting extra-index-url)
        [ -z "$value" ] || export UV_INDEX="$value"
    fi
    if [ -z "${UV_FIND_LINKS:-}" ]; then
        value=$(pip_setting find-links)
        [ -z "$value" ] || export UV_FIND_LINKS="${value// /,}"
    fi
    if [ -z "${UV_NO_INDEX:-}" ]; then
        value=$(pip_setting no-index)
        case $value in 1 | [Tt]rue | [Yy]es | [Oo]n) export UV_NO_INDEX=1 ;; esac
    fi
    if [ -z "${SSL_CERT_FILE:-}" ]; then
        value=$(pip_setting cert)
        [ -n "$value" ] || value=${REQUESTS_CA_BUNDLE:-}
        [ -z "$value" ] || export SSL_CERT_FILE="$value"
    fi
    # Without a bundle of its own: whatever the system trusts, as pip does.
    [ -n "${SSL_CERT_FILE:-}" ] || export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-1}
}
