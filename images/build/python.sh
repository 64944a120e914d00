# python.sh FOLDER: the locked Python packages into an environment at FOLDER: wheels only, hashes checked, nothing resolved.
set -eu
. /build/network.sh
export UV_CACHE_DIR=/cache/uv UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1
python=/usr/bin/python3
for own in /opt/python/*/bin/python3; do
    if [ -x "$own" ]; then
        python=$own
    fi
done
/opt/uv/bin/uv venv --quiet --python "$python" "$1"
/opt/uv/bin/uv pip install --python "$1/bin/python" --require-hashes --no-deps \
    --only-binary :all: --compile-bytecode -r /build/requirements.txt
