#!/bin/sh
# Build canvod-launch and install it into /opt/project, laid out as in /opt/venv: a layer of its own, so that an
# edited source does not store the dependencies again. Needs no network.
set -eu
cd /build

export UV_NO_CACHE=1 UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never UV_OFFLINE=1 SOURCE_DATE_EPOCH=315532800
export PYTHONDONTWRITEBYTECODE=1 NO_COLOR=1
PYTHONPATH=$(echo /opt/build/lib/python3*/site-packages) /opt/build/bin/uv pip install --no-progress \
    --python /opt/venv/bin/python --prefix /opt/project --no-deps --no-build-isolation --no-index /build

# What the wheel carries for building images is of no use inside one.
rm -rf /opt/project/lib/python3*/site-packages/canvod/launch/_build
rm -f /opt/project/.lock /opt/project/lib/python3*/site-packages/canvod_launch-*.dist-info/direct_url.json
/opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash -s /opt/project -p /opt/venv /opt/project/lib
