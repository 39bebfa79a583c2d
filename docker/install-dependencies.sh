#!/bin/sh
# Install the locked dependencies into /opt/venv, and what is needed to build packages into /opt/build.
set -eu
. /build/docker/site.sh

python3 - "${PYTHON:-}" <<'EOF'
import sys
wanted, found = sys.argv[1], "%d.%d" % sys.version_info[:2]
if wanted and wanted != found:
    sys.exit(f"The base image has Python {found}, but {wanted} is asked for: give an image of that version.")
EOF

export PIP_DEFAULT_TIMEOUT=180 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
export UV_HTTP_TIMEOUT=180 UV_NO_CACHE=1 UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy

python3 -m venv /opt/build
/opt/build/bin/pip install -q --no-compile --require-hashes --only-binary :all: -r requirements-build.lock
python3 -m venv --without-pip /opt/venv

# Build backends come from the lock as well: no isolated environment that would fetch whatever is newest.
PYTHONPATH=$(echo /opt/build/lib/python3*/site-packages) /opt/build/bin/uv pip install \
    --python /opt/venv/bin/python --require-hashes --no-build-isolation -r requirements.lock

# The test suites of the largest packages are a sixth of all files; nobody runs them in a worker.
for package in bokeh dask distributed matplotlib numpy pandas xarray zarr; do
    find /opt/venv/lib/python3*/site-packages/"$package" -depth -type d -name tests -exec rm -rf {} + 2>/dev/null || true
done

# Unchecked bytecode: the files never change, and their times need not survive the way into the image.
/opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib
