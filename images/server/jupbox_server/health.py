"""`python -m jupbox_server.health`: whether the server answers over verified HTTPS, 0 or 1."""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from .paths import PORT, SEAL, Paths

#: Seconds until the probe gives up, whatever it is doing.
LIMIT = 2.8


def trusting(certificate: Path) -> ssl.SSLContext:
    """Trusts the seal's own chain and nothing else.

    The name is not checked: a certificate that the user brought need not hold 127.0.0.1.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(certificate)
    # A leaf is trusted as it stands, where its CA is not in the file.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    return context


def check(paths: Paths, port: int) -> str:
    """Ask the server on the loopback for its version.

    Raises:
        OSError: no server, no TLS, or another certificate than the seal's.
        http.client.HTTPException: not HTTP.
        ValueError: not Jupyter's answer.
    """
    context = trusting(paths.certificate)
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=LIMIT, context=context)
    try:
        connection.request("GET", "/api")
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise ValueError(f"the server answers {response.status}")
        return str(json.loads(body)["version"])
    except (KeyError, TypeError):
        raise ValueError("the answer is not Jupyter's") from None
    finally:
        connection.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Probe once within three seconds; the exit code."""
    parser = argparse.ArgumentParser(prog="jupbox_server.health", description=__doc__)
    parser.add_argument("--seal", type=Path, default=SEAL, metavar="DIR")
    parser.add_argument("--port", type=int, default=PORT)
    arguments = parser.parse_args(argv)
    outcome = [f"no answer within {LIMIT} s"]

    def probe() -> None:
        try:
            check(Paths(seal=arguments.seal), arguments.port)
            outcome[:] = []
        except (OSError, ValueError, http.client.HTTPException) as error:
            outcome[:] = [str(error) or type(error).__name__]

    # A socket's timeout starts again with each byte; this one does not.
    worker = threading.Thread(target=probe, daemon=True)
    worker.start()
    worker.join(LIMIT)
    for reason in outcome:
        print(f"unhealthy: {reason}", file=sys.stderr)
    return 1 if outcome else 0


if __name__ == "__main__":
    sys.exit(main())
