"""`python -m jupbox_server.health`: whether the server answers over verified HTTPS, 0 or 1.

The engine runs it each 20 seconds and counts; what it does with an unhealthy container is
nothing. So a probe that finds a server which will never answer again ends it, see `hung`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import heartbeat, hung
from .paths import CONTROL_SOCKET, PORT, SEAL, Paths

#: Seconds until the probe gives up, whatever it is doing.
LIMIT = 2.8
#: Where what the first process writes to stderr goes: the container's log.
LOG = Path("/proc/1/fd/2")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why there was no answer.

    Attributes:
        reason: for a person.
        refused: whether nobody listens at the port.
    """

    reason: str
    refused: bool = False


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


def probe(paths: Paths, port: int) -> Failure | None:
    """Ask once, within LIMIT whatever happens; None if it answers."""
    outcome: list[Failure | None] = [Failure(reason=f"no answer within {LIMIT} s")]

    def ask() -> None:
        try:
            check(paths, port)
            outcome.append(None)
        except (OSError, ValueError, http.client.HTTPException) as error:
            refused = isinstance(error, ConnectionRefusedError)
            outcome.append(Failure(reason=str(error) or type(error).__name__, refused=refused))

    # A socket's timeout starts again with each byte; this one does not.
    worker = threading.Thread(target=ask, daemon=True)
    worker.start()
    worker.join(LIMIT)
    return outcome[-1]


def watch(folder: Path, failure: Failure | None, *, log: Path, limits: hung.Limits) -> None:
    """Note the probe, and end a server that will never answer again.

    Args:
        folder: where the server leaves its sign of life, and the probes what they found.
        failure: what this one found.
        log: the container's log.
        limits: how long is too long.
    """
    sign = heartbeat.read(folder)
    if sign is None:
        return
    try:
        row, verdict = hung.judge(
            hung.remembered(folder),
            sign,
            hung.look(sign.pid),
            problem=failure.reason if failure else None,
            refused=failure is not None and failure.refused,
            now=time.monotonic(),
            limits=limits,
        )
        hung.remember(folder, row)
    except (OSError, ValueError, IndexError) as error:
        print(f"a server that hangs would not be noticed: {error}", file=sys.stderr)
        return
    hung.carry_out(verdict, sign, log=log, limits=limits)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    usual = hung.Limits()
    parser = argparse.ArgumentParser(prog="jupbox_server.health", description=__doc__)
    parser.add_argument("--seal", type=Path, default=SEAL, metavar="DIR")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--run", type=Path, default=CONTROL_SOCKET.parent, metavar="DIR")
    parser.add_argument("--log", type=Path, default=LOG, metavar="FILE")
    for name in ("still", "computing", "start"):
        parser.add_argument(f"--{name}", type=float, default=getattr(usual, name), metavar="S")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Probe once within three seconds; the exit code."""
    arguments = _arguments(sys.argv[1:] if argv is None else argv)
    failure = probe(Paths(seal=arguments.seal), arguments.port)
    if failure:
        print(f"unhealthy: {failure.reason}", file=sys.stderr)
    limits = hung.Limits(
        still=arguments.still, computing=arguments.computing, start=arguments.start
    )
    watch(arguments.run, failure, log=arguments.log, limits=limits)
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
