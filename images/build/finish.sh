# finish.sh EPOCH: what the image was built from, so that a laptop without the lock need not resolve anew.
set -eu
. /build/settle.sh
cp /build/image.lock /opt/env/image.lock
chmod 0644 /opt/env/image.lock
settle "$1"
