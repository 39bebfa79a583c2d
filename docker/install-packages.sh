#!/bin/sh
# Install what a lab adds (launch.packages) into /opt/packages, laid out as /opt/venv: a layer of its own. The locked
# dependencies are used where it needs them, and their versions stay as they are.
set -eu
. /build/docker/site.sh
cd /build

packages=docker/packages/requirements.txt
# Never empty: copying nothing makes a layer that some engines lose ("layer does not exist", moby#37965).
mkdir -p /opt/packages/share/canvod-launch
touch /opt/packages/share/canvod-launch/packages
[ -s "$packages" ] || exit 0
export UV_HTTP_TIMEOUT=180 UV_NO_CACHE=1 UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy
export PYTHONDONTWRITEBYTECODE=1 NO_COLOR=1 CFLAGS=-g0

install() {
    set -- --no-progress --python /opt/venv/bin/python --constraints requirements.lock -r "$packages"
    # As pip does: where one requirement has a hash, all need one.
    ! grep -q -e --hash= "$packages" || set -- "$@" --require-hashes
    /opt/build/bin/uv pip install "$@"
}

files() { (cd /opt/venv && find . ! -type d | sort); }

files > /tmp/before
echo "Installing launch.packages"
if ! install > /tmp/output 2>&1; then
    if grep -q 'Failed to build' /tmp/output; then
        echo "Some come as source only: installing a compiler"
        sh docker/install-compiler.sh
        install
    else
        cat /tmp/output
        exit 1
    fi
fi
rm -f /opt/venv/.lock

echo "Compiling bytecode"
files | comm -13 /tmp/before - | sed -n 's#^\./\(.*\.py\)$#/opt/venv/\1#p' > /tmp/modules
# A package may hold files that are no Python of this version.
/opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash -i /tmp/modules || true
# matplotlib lists the fonts at its first import, in every new container again.
if /opt/venv/bin/python -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('matplotlib') is None)"; then
    MPLCONFIGDIR=/opt/venv/share/matplotlib /opt/venv/bin/python -c "import matplotlib.font_manager"
fi

files | comm -13 /tmp/before - > /tmp/new
cd /opt/venv
tar --create --files-from=/tmp/new | tar --extract --directory=/opt/packages
tr '\n' '\0' < /tmp/new | xargs -0 -r rm
find . -type d -empty -delete
