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

echo "Installing the locked dependencies"
PYTHONPATH=$(echo /opt/build/lib/python3*/site-packages) /opt/build/bin/uv pip install --no-progress \
    --python /opt/venv/bin/python --require-hashes --only-binary :all: -r requirements.lock

rm -f /opt/venv/.lock

# Nobody runs the test suites of the dependencies in a worker; they would be compiled, too.
echo "Removing test suites"
for package in bokeh dask distributed numpy pandas xarray zarr; do
    folder=$(echo /opt/venv/lib/python3*/site-packages)/$package
    [ ! -d "$folder" ] || find "$folder" -depth -type d -name tests -exec rm -rf {} +
done

# Unchecked bytecode: the files never change, and their times need not survive the way into the image.
echo "Compiling bytecode"
/opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib
echo "Storing the layer"
