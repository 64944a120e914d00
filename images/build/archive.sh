# Sourced: how apt is told of the build's network; lists and archives stay in the cache mount.
mkdir -p /cache/apt/lists/partial /cache/apt/cache/archives/partial
options="-o Dir::State::Lists=/cache/apt/lists -o Dir::Cache=/cache/apt/cache"
options="$options -o APT::Sandbox::User=root -o Acquire::Retries=3"
if [ -s /run/secrets/sources ]; then
    options="$options -o Dir::Etc::SourceList=/run/secrets/sources -o Dir::Etc::SourceParts=/dev/null"
fi
if [ -s /run/secrets/ca ]; then
    options="$options -o Acquire::https::CAInfo=/run/secrets/ca"
fi
