# Put the locked uv into /opt/uv, with its hash checked by the distribution's own pip.
set -eu
. /build/network.sh
mkdir -p /cache/apt/lists/partial /cache/apt/cache/archives/partial
options="-o Dir::State::Lists=/cache/apt/lists -o Dir::Cache=/cache/apt/cache"
options="$options -o APT::Sandbox::User=root -o Acquire::Retries=3"
if [ -s /run/secrets/sources ]; then
    options="$options -o Dir::Etc::SourceList=/run/secrets/sources -o Dir::Etc::SourceParts=/dev/null"
fi
if [ -s /run/secrets/ca ]; then
    options="$options -o Acquire::https::CAInfo=/run/secrets/ca"
fi
# shellcheck disable=SC2086
apt-get -q $options update
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get -q $options install -y --no-install-recommends python3-venv
python3 -m venv /opt/uv
PIP_CACHE_DIR=/cache/pip PIP_DISABLE_PIP_VERSION_CHECK=1 /opt/uv/bin/pip install --quiet \
    --no-deps --require-hashes --only-binary :all: -r /build/uv.txt
