# interpreter.sh KEY SHA256 EPOCH: put CPython into /opt/python by uv, with its hash checked.
# Neither uv's own list nor a mirror decides here: the secret names the one archive.
set -eu
. /build/network.sh
. /build/settle.sh
export UV_PYTHON_DOWNLOADS_JSON_URL=/run/secrets/interpreter UV_PYTHON_CACHE_DIR=/tmp/archives
export UV_NO_CONFIG=1 UV_NO_PROGRESS=1
/opt/uv/bin/uv python install --no-bin --install-dir /opt/python "$1"
cd /tmp/archives
echo "$2  $(ls)" | sha256sum --strict -c -
find /opt/python -mindepth 1 -maxdepth 1 ! -name "$1" -exec rm -rf {} +
# Compiled here, by content: what a later step runs would else write files with times into another
# layer. A few of its own tests are meant not to compile.
PYTHONHASHSEED=0 "/opt/python/$1/bin/python3" -B -m compileall -q -f \
    --invalidation-mode unchecked-hash "/opt/python/$1/lib" > /tmp/compiled.txt 2>&1 || true
settle "$3"
