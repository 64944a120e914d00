# Put the locked uv into /opt/uv, with its hash checked by the distribution's own pip.
set -eu
printf 'python3-venv\n' > /tmp/tools.txt
. /build/network.sh
sh /build/apt.sh /tmp/tools.txt
python3 -m venv /opt/uv
PIP_CACHE_DIR=/cache/pip PIP_DISABLE_PIP_VERSION_CHECK=1 /opt/uv/bin/pip install --quiet \
    --no-deps --require-hashes --only-binary :all: -r /build/uv.txt
