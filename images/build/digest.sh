# digest.sh IMAGE FOLDER: the digest of a flattened image, and what it is of.
# One record a path, sorted, each ended by a NUL: `ENTRY time type mode uid gid path`, the time cut
# to seconds as not all image stores keep more, `LINK path target`, `FILE hash  path`.
# The root folder itself is left out: stores make it anew.
set -eu
export LC_ALL=C
mkdir -p "$2"
cd "$1"
{
    find . -xdev -mindepth 1 -printf '%T@ %y %m %U %G %p\0' \
        | sed -z -E 's/^(-?[0-9]+)(\.[0-9]+)? /ENTRY \1 /' | sort -z
    find . -xdev -type l -printf 'LINK %p\0%l\0' | sed -z -E '$!N;s/\x00/ -> /' | sort -z
    find . -xdev -type f -print0 | sort -z | xargs -0 -r sha256sum -z | sed -z 's/^/FILE /'
} > "$2/contents"
hash=$(sha256sum < "$2/contents")
echo "sha256:${hash%% *}" > "$2/digest"
