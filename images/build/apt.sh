# apt.sh LIST FOLDER EPOCH: install the files that LIST names (`name=version file sha256` a line)
# from FOLDER; nothing is fetched, and nothing else gets in.
set -eu
. /build/settle.sh
# pyc files then hold their source's hash, and useradd no date of today
export DEBIAN_FRONTEND=noninteractive SOURCE_DATE_EPOCH="$3"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
folder=$2
while read -r package file hash; do
    if ! echo "$hash  $folder/$file" | sha256sum --status --strict -c; then
        echo "E: $package: its file has another SHA-256 than the lock" >&2
        exit 45
    fi
    set -- "$@" "$folder/$file"
done < "$1"
epoch=$3
shift 3
apt-get -q -o APT::Sandbox::User=root -o Dir::State::Lists=/tmp/lists \
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
    install -y --no-install-recommends --allow-downgrades "$@"
rm -rf /tmp/lists
settle "$epoch"
