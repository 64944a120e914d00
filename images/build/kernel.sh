# kernel.sh NAME: a further Python environment, and its kernel where JupyterLab finds it.
set -eu
sh /build/python.sh "/opt/kernels/$1"
mkdir -p "/opt/env/share/jupyter/kernels/$1"
cp /build/kernel.json "/opt/env/share/jupyter/kernels/$1/kernel.json"
chmod 0644 "/opt/env/share/jupyter/kernels/$1/kernel.json"
