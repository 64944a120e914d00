# python.sh FOLDER REQUIREMENTS EPOCH [sources]: the locked Python packages into an environment at
# FOLDER: hashes checked, nothing resolved; wheels only, unless the fourth word says otherwise.
set -eu
. /build/network.sh
. /build/settle.sh
export UV_CACHE_DIR=/cache/uv UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1
if [ ! -e "$1/bin/python" ]; then
    python=/usr/bin/python3
    for own in /opt/python/*/bin/python3; do
        if [ -x "$own" ]; then
            python=$own
        fi
    done
    /opt/uv/bin/uv venv --quiet --python "$python" "$1"
fi
only="--only-binary :all:"
if [ "${4:-}" = sources ]; then
    only= # what they need to be built is of no lock: uv takes it from the index
fi
# shellcheck disable=SC2086
/opt/uv/bin/uv pip install --python "$1/bin/python" --require-hashes --no-deps $only -r "$2"
# What this layer brought: the one below has the lock's time already, and must not come twice.
new="-newermt @$3 -o ! -newermt @$(($3 - 1))"
# a pyc file that holds a time would differ between builds; nobody writes to the sources
# shellcheck disable=SC2086
find "$1/lib" -name '*.py' \( $new \) -print \
    | "$1/bin/python" -m compileall -qq -j 0 --invalidation-mode unchecked-hash -i - || true
# whatever time a wheel says
# shellcheck disable=SC2086
find "$1" \( $new \) -exec touch -h -d "@$3" {} +
settle "$3"
