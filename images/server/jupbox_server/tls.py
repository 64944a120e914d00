"""The server's own SSLContext, and the watch that puts a fresh one in its place."""

from __future__ import annotations

import hashlib
import logging
import ssl
from collections.abc import Callable

from .paths import Paths
from .seal import SealError

# Mozilla's intermediate profile for TLS 1.2; those of 1.3 are all in it. No CBC, no RSA exchange.
_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


def _no_passphrase() -> str:
    # Without this OpenSSL would ask on the terminal for an encrypted key's passphrase.
    raise SealError("the TLS key is encrypted; a server that restarts by itself cannot open it")


def load_context(paths: Paths) -> ssl.SSLContext:
    """A server context in Mozilla's intermediate profile from the seal's pair.

    Raises:
        SealError: certificate or key is missing, cut off, unreadable, or they do not match.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_SUITES)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        chain = paths.certificate.read_bytes()
        if chain.count(_BEGIN) != chain.count(_END) or not chain.rstrip().endswith(_END):
            raise SealError(f"the certificate {paths.certificate} is empty or cut off")
        context.load_cert_chain(paths.certificate, paths.key, password=_no_passphrase)
    except ssl.SSLError as error:
        reason = "they do not match" if error.reason == "KEY_VALUES_MISMATCH" else error.reason
        raise SealError(f"{paths.certificate} and {paths.key} cannot be used: {reason}") from None
    except OSError as error:
        where = error.filename or f"{paths.certificate} or {paths.key}"
        raise SealError(f"{where} cannot be read: {error.strerror}") from None
    return context


class PairWatch:
    """Looks at the seal's pair and hands on a context when a new one can be used.

    A pair is tried once it has stood still from one look to the next, and counts only if it is
    still the same after it loaded: a writer that is halfway through is waited for, and what does
    not match never replaces what works.

    Args:
        paths: where certificate and key are.
        log: told of each new pair, used or refused.
    """

    def __init__(self, paths: Paths, log: logging.Logger | logging.LoggerAdapter[logging.Logger]):
        self._paths = paths
        self._log = log
        self._judged = self._seen = self._digest()

    def _digest(self) -> bytes | None:
        """Of both files, or None if one cannot be read; the key itself is not kept."""
        digest = hashlib.sha256()
        try:
            for path in (self._paths.certificate, self._paths.key):
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError:
            return None
        return digest.digest()

    def look(self, use: Callable[[ssl.SSLContext], None]) -> None:
        """Call `use` with a fresh context if a new pair is there, whole, and loads."""
        digest = self._digest()
        settled, self._seen = digest == self._seen, digest
        if digest is None or digest == self._judged or not settled:
            return
        try:
            context = load_context(self._paths)
        except SealError as error:
            self._judged = digest
            self._log.warning("The new TLS certificate is not used, the last one stays: %s", error)
            return
        if self._digest() != digest:
            return
        self._judged = digest
        use(context)
        self._log.info("A new TLS certificate is in use.")
