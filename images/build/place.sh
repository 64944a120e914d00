# place.sh EPOCH: CPython from the stage that fetched it into the image.
set -eu
. /build/settle.sh
cp -a /cache/python /opt/python
settle "$1"
