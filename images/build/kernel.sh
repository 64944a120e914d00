# kernel.sh NAME EPOCH [sources]: a further Python environment, and its kernel where JupyterLab finds it.
set -eu
. /build/settle.sh
sh /build/python.sh "/opt/kernels/$1" /build/requirements.txt "$2" "${3:-}"
mkdir -p "/opt/env/share/jupyter/kernels/$1"
cp /build/kernel.json "/opt/env/share/jupyter/kernels/$1/kernel.json"
chmod 0644 "/opt/env/share/jupyter/kernels/$1/kernel.json"
settle "$2"
