# Sourced by the other scripts: the build's way to the network. Each secret may be missing.
if [ -s /run/secrets/network ]; then
    . /run/secrets/network
fi
if [ -s /run/secrets/ca ]; then
    export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca
fi
if [ -s /run/secrets/netrc ]; then
    export NETRC=/run/secrets/netrc
fi
if [ -s /run/secrets/uv ]; then
    export UV_CONFIG_FILE=/run/secrets/uv
fi
