# run.sh EPOCH: a definition's own commands, one a line of commands.txt, each in a shell of its own:
# what one of them leaves behind is in files alone, and every failure stops the build.
set -eu
. /build/network.sh
. /build/settle.sh
# one stream, so that a command's last words stand right before what is said of it
exec 2>&1
if [ -s /run/secrets/sources ]; then
    printf 'Dir::Etc::SourceList "/run/secrets/sources";\nDir::Etc::SourceParts "/dev/null";\n' \
        > /tmp/apt.conf
    export APT_CONFIG=/tmp/apt.conf
fi
if [ -s /run/secrets/ca ]; then
    echo 'Acquire::https::CAInfo "/run/secrets/ca";' >> /tmp/apt.conf
    export APT_CONFIG=/tmp/apt.conf
fi
export DEBIAN_FRONTEND=noninteractive SOURCE_DATE_EPOCH="$1"
cd /
while IFS= read -r command <&3; do
    echo "+ $command"
    sh -euc "$command" < /dev/null 3<&- || {
        echo "E: exit code $? of run: $command"
        exit 46
    }
done 3< /build/commands.txt
rm -f /tmp/apt.conf
settle "$1"
