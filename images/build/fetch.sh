# fetch.sh: put the files of the locked packages into /debs/LAYER, each with its hash checked.
# /build/LAYER.txt has `name=version file sha256` a line.
set -eu
. /build/network.sh
. /build/archive.sh
mkdir -p /cache/apt/debs

# The cache's file of a line, if it is there and whole.
have() {
    [ -f "/cache/apt/debs/$3" ] && echo "$3  /cache/apt/debs/$3" | sha256sum --status --strict -c
}

# What of the lock is not in the cache yet, as apt names it.
lacking() {
    cat /build/*.txt | while read -r package file hash; do
        have "$package" "$file" "$hash" || echo "$package"
    done
}

# Whether the archives at hand have these versions.
offered() {
    # shellcheck disable=SC2086
    apt-get -qq $options download --print-uris "$@" > /dev/null 2>&1
}

# Get what is lacking and what the archives at hand have; each file under its own hash.
get() {
    mkdir -p /tmp/debs
    cd /tmp/debs
    available=$(lacking)
    # shellcheck disable=SC2086
    if ! offered $available; then
        available=
        for package in $(lacking); do
            if offered "$package"; then available="$available $package"; fi
        done
    fi
    if [ -n "$available" ]; then
        # shellcheck disable=SC2086
        apt-get -q $options download $available
    fi
    for file in *.deb; do
        [ -f "$file" ] || continue
        hash=$(sha256sum "$file")
        mv "$file" "/cache/apt/debs/${hash%% *}"
    done
    cd /
    rm -rf /tmp/debs
}

if [ -n "$(lacking)" ]; then
    # a mirror out of reach is no mirror that lacks something
    # shellcheck disable=SC2086
    apt-get -q $options -o APT::Update::Error-Mode=any update
    get
fi
for package in $(lacking); do
    if offered "$package"; then
        echo "E: $package: the archive's file has another SHA-256 than the lock" >&2
        exit 45
    fi
done
if [ -n "$(lacking)" ] && [ -s /run/secrets/snapshot ]; then
    options="$options -o Dir::Etc::SourceList=/run/secrets/snapshot"
    options="$options -o Dir::Etc::SourceParts=/dev/null"
    # shellcheck disable=SC2086
    apt-get -q $options update || true
    get
fi
for list in /build/*.txt; do
    layer=${list##*/}
    layer=/debs/${layer%.txt}
    mkdir -p "$layer"
    while read -r package file hash; do
        if ! have "$package" "$file" "$hash"; then
            echo "E: gone from the archive: $package" >&2
            exit 44
        fi
        cp "/cache/apt/debs/$hash" "$layer/$file"
    done < "$list"
done
