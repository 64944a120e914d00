"""OpenSSL's configuration for this process alone."""

from __future__ import annotations

import errno
import os
from pathlib import Path

#: Beside this package, in the repository as in the image.
CONFIG = Path(__file__).resolve().parent.parent / "openssl.cnf"


def configure(config: Path = CONFIG) -> None:
    """Have OpenSSL read `config`, without handing it down to kernels and terminals.

    OpenSSL reads its configuration once, when a process first uses it, and `import hashlib` is
    a use: this comes before that, and this module imports nothing that would.

    Raises:
        FileNotFoundError: `config` is not there.
    """
    if not config.is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(config))
    before = os.environ.get("OPENSSL_CONF")
    os.environ["OPENSSL_CONF"] = str(config)
    try:
        import ssl  # noqa: PLC0415

        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    finally:
        del os.environ["OPENSSL_CONF"]
        if before is not None:
            os.environ["OPENSSL_CONF"] = before
