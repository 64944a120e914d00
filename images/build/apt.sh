# apt.sh FILE: install the packages that FILE names, one `name=version` a line.
# Lists and archives stay in the cache mount; logs and caches would only differ between builds.
set -eu
. /build/network.sh
mkdir -p /cache/apt/lists/partial /cache/apt/cache/archives/partial
options="-o Dir::State::Lists=/cache/apt/lists -o Dir::Cache=/cache/apt/cache"
options="$options -o APT::Sandbox::User=root -o APT::Keep-Downloaded-Packages=true"
options="$options -o Binary::apt-get::APT::Keep-Downloaded-Packages=true -o Acquire::Retries=3"
if [ -s /run/secrets/sources ]; then
    options="$options -o Dir::Etc::SourceList=/run/secrets/sources -o Dir::Etc::SourceParts=/dev/null"
fi
if [ -s /run/secrets/ca ]; then
    options="$options -o Acquire::https::CAInfo=/run/secrets/ca"
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
apt-get -q $options update
# shellcheck disable=SC2086,SC2046
apt-get -q $options install -y --no-install-recommends --allow-downgrades $(cat "$1")
rm -rf /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/cache/debconf/*-old \
    /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache /var/lib/dpkg/*-old
