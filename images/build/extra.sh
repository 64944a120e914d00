# extra.sh EPOCH: files of the project and JupyterLab's settings to where they belong; the folders
# say their modes.
set -eu
. /build/settle.sh
for mode in 0644 0755; do
    if [ -d "/build/$mode" ]; then
        cd "/build/$mode"
        find . -type f -exec sh -euc \
            'for file; do install -D -T -m "$0" "$file" "/$file"; done' "$mode" {} +
    fi
done
settle "$1"
