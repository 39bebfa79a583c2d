#!/bin/sh
# Install the locked dependencies into /opt/venv, and what builds packages into /opt/build.
set -eu
. /build/docker/site.sh
cd /build

export PIP_DEFAULT_TIMEOUT=180 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
export UV_HTTP_TIMEOUT=180 UV_NO_CACHE=1 UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy
export PYTHONDONTWRITEBYTECODE=1 NO_COLOR=1

echo "Installing the build tools"
python3 -m venv /opt/build
/opt/build/bin/pip install -q --no-compile --require-hashes --only-binary :all: -r requirements-build.lock
python3 -m venv --without-pip /opt/venv

# sbf-parser is compiled: without symbols for a debugger, which make it ten times as large, and one extension
# module on each core.
export CFLAGS=-g0 DIST_EXTRA_CONFIG=/tmp/distutils.cfg
printf '[build_ext]\nparallel = %s\n' "$(nproc)" > "$DIST_EXTRA_CONFIG"

# Build backends come from the lock as well: no isolated environment that would fetch whatever is newest.
echo "Installing the locked dependencies"
PYTHONPATH=$(echo /opt/build/lib/python3*/site-packages) /opt/build/bin/uv pip install --no-progress \
    --python /opt/venv/bin/python --require-hashes --no-build-isolation -r requirements.lock

rm -f /opt/venv/.lock

# Nobody runs the test suites of the dependencies in a worker; they would be compiled, too.
echo "Removing test suites"
for package in bokeh dask distributed fontTools matplotlib numpy pandas xarray zarr; do
    folder=$(echo /opt/venv/lib/python3*/site-packages)/$package
    [ ! -d "$folder" ] || find "$folder" -depth -type d -name tests -exec rm -rf {} +
done

# Unchecked bytecode: the files never change, and their times need not survive the way into the image.
echo "Compiling bytecode"
/opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib
# canvod-readers, where the Python is new enough for it, imports matplotlib, which lists the fonts at its first import,
# in every new container again.
if /opt/venv/bin/python -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('matplotlib') is None)"; then
    MPLCONFIGDIR=/opt/venv/share/matplotlib /opt/venv/bin/python -c "import matplotlib.font_manager"
fi
echo "Storing the layer"
