"""A Jupyter server with TLS and a password on any machine that ssh reaches."""
