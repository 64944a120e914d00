# Put the locked uv into /opt/uv, with its hash checked by the distribution's own pip.
set -eu
. /build/network.sh
. /build/archive.sh
# shellcheck disable=SC2086
apt-get -q $options update
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get -q $options install -y --no-install-recommends python3-venv
python3 -m venv /opt/uv
PIP_CACHE_DIR=/cache/pip PIP_DISABLE_PIP_VERSION_CHECK=1 /opt/uv/bin/pip install --quiet \
    --no-deps --require-hashes --only-binary :all: -r /build/uv.txt
