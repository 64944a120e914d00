"""Installing a box's authority into the user's own trust stores, and taking it out again.

Browsers on Linux read NSS databases: Chromium one for each user, Firefox one for each profile. The
system's store serves curl, Python and the like, and only root writes it. macOS has keychains; what
is here for them has not been tested on a Mac.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from jupbox.errors import CertificateError, FilesError, TrustError
from jupbox.host.files import write_atomic

_TIMEOUT_SECONDS: Final = 60.0

# "C": trusted to issue server certificates; nothing for mail, nothing for programs.
_NSS_TRUST: Final = "C,,"

# Where Firefox keeps profiles below the home directory: the distribution's (since 147 below
# .config), the snap's, the flatpak's, the Mac's.
_FIREFOX_ROOTS: Final = (
    ".mozilla/firefox",
    ".config/mozilla/firefox",
    "snap/firefox/common/.mozilla/firefox",
    "snap/firefox/common/.config/mozilla/firefox",
    ".var/app/org.mozilla.firefox/.mozilla/firefox",
    ".var/app/org.mozilla.firefox/config/mozilla/firefox",
    "Library/Application Support/Firefox",
)
# Confined Chromiums, each with a home of its own; `data` is the flatpak's .local/share.
_CONFINED_CHROMIUMS: Final = (
    "snap/chromium/current",
    ".var/app/org.chromium.Chromium",
    ".var/app/com.google.Chrome",
)
_CHROMIUM_CLASSIC: Final = ".pki/nssdb"
_CHROMIUM_XDG: Final = (".local/share/pki/nssdb", "data/pki/nssdb")

# A line of `certutil -L`: a nickname, which may hold spaces, and the trust in three fields.
_NSS_LINE: Final = re.compile(r"(?P<nickname>\S.*?)\s+(?P<trust>[A-Za-z]*,[A-Za-z]*,[A-Za-z]*)\s*")

# By package manager, the package that holds certutil.
_CERTUTIL_PACKAGES: Final = (
    ("apt-get", "apt install libnss3-tools"),
    ("dnf", "dnf install nss-tools"),
    ("zypper", "zypper install mozilla-nss-tools"),
    ("pacman", "pacman -S nss"),
    ("brew", "brew install nss"),
)


@dataclass(frozen=True, kw_only=True)
class Store:
    """A place that programs read trusted authorities from.

    Attributes:
        kind: "nss" (a database of Chromium or Firefox), "system" or "keychain".
        location: its directory or file.
    """

    kind: str
    location: str


@dataclass(frozen=True, kw_only=True)
class TrustResult:
    """What `trust` did.

    Attributes:
        added: stores that trust the authority from now on.
        already: stores that did before.
        skipped: stores that could not be written, each with the reason.
    """

    added: tuple[Store, ...]
    already: tuple[Store, ...]
    skipped: tuple[tuple[Store, str], ...]


@dataclass(frozen=True, kw_only=True)
class _SystemLayout:
    """Where a distribution takes local authorities from, and what makes them count."""

    directory: Path
    suffix: str
    refresh: tuple[str, ...]


_DEBIAN: Final = _SystemLayout(
    directory=Path("/usr/local/share/ca-certificates"),
    suffix=".crt",
    # Without --fresh it keeps the hashed links of a file that was replaced, and OpenSSL, which
    # finds authorities by them, would not see the new one.
    refresh=("update-ca-certificates", "--fresh"),
)
_FEDORA: Final = _SystemLayout(
    directory=Path("/etc/pki/ca-trust/source/anchors"),
    suffix=".pem",
    refresh=("update-ca-trust",),
)


class _StoreFailure(Exception):
    """One store could not be written; its text is the reason, shown beside the store."""


def stores(home: Path) -> tuple[Store, ...]:
    """Return the user's own stores: those that exist, and Chromium's even if it does not yet.

    Args:
        home: the user's home directory.
    """
    databases = [*_chromium_databases(home), *_firefox_profiles(home)]
    found = [Store(kind="nss", location=str(path)) for path in dict.fromkeys(databases)]
    keychain = home / "Library/Keychains/login.keychain-db"
    if sys.platform == "darwin" and keychain.exists():
        found.append(Store(kind="keychain", location=str(keychain)))
    return tuple(found)


def trust(*, ca_pem: bytes, nickname: str, home: Path, system: bool) -> TrustResult:
    """Make the user's programs trust a box's authority; done twice, it changes nothing.

    An older authority of the same nickname is replaced. A running Firefox takes note of it at its
    next start. On macOS (not tested there) it goes into the login keychain, and macOS asks.

    Args:
        ca_pem: the authority's certificate.
        nickname: the box's authority in the stores, as `pki.authority_name` gives it.
        home: the user's home directory.
        system: also the system's store, for which one must be root.

    Raises:
        CertificateError: `ca_pem` is no certificate.
        TrustError: no store could be written, for want of certutil or for the reasons it names.
    """
    certificate = _load(ca_pem)
    added: list[Store] = []
    already: list[Store] = []
    skipped: list[tuple[Store, str]] = []
    for store in (*stores(home), *_system_stores(nickname, wanted=system)):
        try:
            changed = _ensure_trusted(store, certificate=certificate, nickname=nickname)
        except (_StoreFailure, OSError, FilesError) as error:
            skipped.append((store, str(error)))
        else:
            (added if changed else already).append(store)
    if not added and not already:
        raise _nothing_written(skipped)
    return TrustResult(added=tuple(added), already=tuple(already), skipped=tuple(skipped))


def untrust(*, nickname: str, home: Path, system: bool) -> tuple[Store, ...]:
    """Take a box's authority out of the user's stores.

    Args:
        nickname: as `trust` was given it.
        home: the user's home directory.
        system: also the system's store, for which one must be root.

    Returns:
        The stores that held it.

    Raises:
        TrustError: a store may still hold it: certutil is missing or the store not writable.
    """
    held: list[Store] = []
    for store in (*stores(home), *_system_stores(nickname, wanted=system)):
        try:
            if _ensure_absent(store, nickname=nickname):
                held.append(store)
        except (_StoreFailure, OSError) as error:
            raise TrustError(
                f"The authority could not be removed from {store.location}: {error}",
                remedy=_remedy(),
            ) from error
    return tuple(held)


def holding(*, nickname: str, home: Path) -> tuple[Store, ...]:
    """Return the stores that hold a box's authority, the system's among them; none is changed.

    Args:
        nickname: as `trust` was given it.
        home: the user's home directory.
    """
    return tuple(
        store
        for store in (*stores(home), *_system_stores(nickname, wanted=True))
        if _has_nickname(store, nickname=nickname)
    )


def _has_nickname(store: Store, *, nickname: str) -> bool:
    if store.kind == "system":
        return Path(store.location).is_file()
    if store.kind == "keychain":
        return bool(_keychain_fingerprints(store, nickname=nickname))
    # without certutil nothing was ever put there
    with contextlib.suppress(_StoreFailure):
        return _is_database(Path(store.location)) and bool(
            _certificates(store, _nss_nickname(nickname))
        )
    return False


def is_trusted(*, ca_pem: bytes, nickname: str, home: Path) -> bool:
    """Tell whether each of the user's own stores trusts an authority; the system's is not asked.

    Args:
        ca_pem: the authority's certificate.
        nickname: as `trust` was given it.
        home: the user's home directory.

    Raises:
        CertificateError: `ca_pem` is no certificate.
    """
    certificate = _load(ca_pem)
    try:
        return all(
            _holds(store, certificate=certificate, nickname=nickname) for store in stores(home)
        )
    except (_StoreFailure, OSError):
        return False


def _chromium_databases(home: Path) -> Iterator[Path]:
    yield from _chromium_of(home)
    for confined in _CONFINED_CHROMIUMS:
        # Followed: a snap's `current` is a link that moves at each update.
        if (home / confined).is_dir():
            yield from _chromium_of(home / confined)


def _chromium_of(base: Path) -> Iterator[Path]:
    """Yield the databases that a Chromium with this home may read.

    Chromium takes ~/.pki/nssdb if it exists, and from 146 on else ~/.local/share/pki/nssdb. Making
    the former beside the latter would hide the latter's certificates from it.
    """
    modern = [base / path for path in _CHROMIUM_XDG if _is_database(base / path)]
    yield from modern
    if not modern or (base / _CHROMIUM_CLASSIC).is_dir():
        yield base / _CHROMIUM_CLASSIC


def _firefox_profiles(home: Path) -> Iterator[Path]:
    for root in (home / path for path in _FIREFOX_ROOTS):
        candidates = [*_listed_profiles(root), *root.glob("*"), *root.glob("Profiles/*")]
        # Without a database a profile has never been started, and Firefox would make another.
        yield from sorted({path for path in candidates if _is_database(path)})


def _listed_profiles(root: Path) -> Iterator[Path]:
    """Yield the profiles of a profiles.ini; they may lie anywhere."""
    listing = configparser.RawConfigParser(strict=False)
    try:
        listing.read(root / "profiles.ini", encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError):
        return
    for section in listing.sections():
        path = listing.get(section, "Path", fallback="")
        if section.startswith("Profile") and path:
            yield root / path


def _is_database(directory: Path) -> bool:
    return (directory / "cert9.db").is_file()


def _system_stores(nickname: str, *, wanted: bool) -> tuple[Store, ...]:
    if not wanted or sys.platform == "darwin":
        return ()
    layout = _system_layout()
    if layout is None:
        return (Store(kind="system", location="the system's store"),)
    name = re.sub(r"[^A-Za-z0-9._@-]+", "-", nickname).strip("-.")
    return (Store(kind="system", location=str(layout.directory / f"{name}{layout.suffix}")),)


def _system_layout() -> _SystemLayout | None:
    for layout in (_DEBIAN, _FEDORA):
        if shutil.which(layout.refresh[0]):
            return layout
    return None


def _ensure_trusted(store: Store, *, certificate: x509.Certificate, nickname: str) -> bool:
    """Make one store trust an authority; tell whether that changed it."""
    if _holds(store, certificate=certificate, nickname=nickname):
        return False
    pem = _pem(certificate)
    if store.kind == "system":
        _add_to_system(store, pem=pem)
    elif store.kind == "keychain":
        _add_to_keychain(store, pem=pem, nickname=nickname)
    else:
        _add_to_database(store, pem=pem, nickname=nickname)
    return True


def _ensure_absent(store: Store, *, nickname: str) -> bool:
    """Take an authority out of one store; tell whether it was there."""
    if store.kind == "system":
        return _remove_from_system(store)
    if store.kind == "keychain":
        return _remove_from_keychain(store, nickname=nickname)
    return _is_database(Path(store.location)) and _remove_from_database(store, nickname=nickname)


def _holds(store: Store, *, certificate: x509.Certificate, nickname: str) -> bool:
    """Tell whether a store trusts an authority and none that it has replaced."""
    if store.kind == "system":
        path = Path(store.location)
        return path.is_file() and path.read_bytes() == _pem(certificate)
    if store.kind == "keychain":
        return _fingerprint(certificate) in _keychain_fingerprints(store, nickname=nickname)
    if not _is_database(Path(store.location)):
        return False
    trusted = _trusted_nicknames(store)
    own = _certificates(store, _nss_nickname(nickname))
    if own:
        return own == [certificate] and _nss_nickname(nickname) in trusted
    # NSS keeps one nickname for a certificate: under the box's former name it is trusted as well.
    return any(certificate in _certificates(store, other) for other in trusted)


# NSS


def _add_to_database(store: Store, *, pem: bytes, nickname: str) -> None:
    # Before a directory is made.
    _require_certutil()
    directory = Path(store.location)
    if not _is_database(directory):
        _make_database(store)
    # First: NSS refuses another subject under a nickname in use.
    _remove_from_database(store, nickname=nickname)
    name = _nss_nickname(nickname)
    added = _certutil(store, "-A", "-n", name, "-t", _NSS_TRUST, "-a", stdin=pem)
    if added.returncode != 0:
        # A database with a primary password takes the certificate and then refuses the trust.
        _certutil(store, "-D", "-n", name)
        _checked(added)


def _make_database(store: Store) -> None:
    directory = Path(store.location)
    nearest = next(parent for parent in (directory, *directory.parents) if parent.is_dir())
    # Under sudo with the user's HOME it would be root's, and Chromium could not use it.
    if nearest.stat().st_uid != os.geteuid():
        raise _StoreFailure(f"{nearest} belongs to another user; run this without sudo")
    for parent in (directory.parent, directory):
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _checked(_certutil(store, "-N", "--empty-password"))


def _remove_from_database(store: Store, *, nickname: str) -> bool:
    name = _nss_nickname(nickname)
    held = _certificates(store, name)
    for _ in held:
        _checked(_certutil(store, "-D", "-n", name))
    return bool(held)


def _trusted_nicknames(store: Store) -> list[str]:
    """Return the nicknames that a database trusts to issue server certificates."""
    listing = _certutil(store, "-L")
    _checked(listing)
    lines = listing.stdout.decode(errors="surrogateescape").splitlines()
    matches = [match for line in lines if (match := _NSS_LINE.fullmatch(line))]
    return [match["nickname"] for match in matches if "C" in match["trust"].split(",")[0]]


def _certificates(store: Store, nickname: str) -> list[x509.Certificate]:
    """Return the certificates of a nickname, none if the database does not know it."""
    found = _certutil(store, "-L", "-n", nickname, "-a")
    if found.returncode != 0:
        return []
    with contextlib.suppress(ValueError):
        return x509.load_pem_x509_certificates(found.stdout)
    return []


def _certutil(store: Store, verb: str, *arguments: str, stdin: bytes = b"") -> _Finished:
    _require_certutil()
    return _run(("certutil", verb, "-d", f"sql:{store.location}", *arguments), stdin=stdin)


def _require_certutil() -> None:
    if shutil.which("certutil") is None:
        raise _StoreFailure(f"certutil is missing ({_certutil_install()})")


def _certutil_install() -> str:
    commands = [command for manager, command in _CERTUTIL_PACKAGES if shutil.which(manager)]
    return (commands or ["it comes with the NSS tools"])[0]


def _nss_nickname(nickname: str) -> str:
    # Before a colon NSS reads the name of a token.
    return nickname.replace(":", " ")


# The system's store


def _add_to_system(store: Store, *, pem: bytes) -> None:
    layout = _writable_layout()
    path = Path(store.location)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomic(path, pem, mode=0o644)
    refreshed = _run(layout.refresh)
    if refreshed.returncode != 0:
        path.unlink()
        _checked(refreshed)


def _remove_from_system(store: Store) -> bool:
    path = Path(store.location)
    if not path.is_file():
        return False
    layout = _writable_layout()
    path.unlink()
    _checked(_run(layout.refresh))
    return True


def _writable_layout() -> _SystemLayout:
    layout = _system_layout()
    if layout is None:
        raise _StoreFailure("this system has neither update-ca-certificates nor update-ca-trust")
    if os.geteuid() != 0:
        raise _StoreFailure("only root may write it")
    return layout


# macOS: written after the manual of security(1), not tested on a Mac.


def _add_to_keychain(store: Store, *, pem: bytes, nickname: str) -> None:
    _remove_from_keychain(store, nickname=nickname)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(pem)
        file.flush()
        options = ("-r", "trustRoot", "-p", "ssl", "-k", store.location)
        _checked(_run(("security", "add-trusted-cert", *options, file.name)))


def _remove_from_keychain(store: Store, *, nickname: str) -> bool:
    held = _keychain_fingerprints(store, nickname=nickname)
    for fingerprint in held:
        # -t: its trust settings too.
        _checked(_run(("security", "delete-certificate", "-Z", fingerprint, "-t", store.location)))
    return bool(held)


def _keychain_fingerprints(store: Store, *, nickname: str) -> list[str]:
    """Return the SHA-256 fingerprints of the certificates with this common name."""
    found = _run(("security", "find-certificate", "-a", "-c", nickname, "-Z", store.location))
    return re.findall(r"^SHA-256 hash: ([0-9A-F]+)$", found.stdout.decode(), re.MULTILINE)


# Running and reporting


@dataclass(frozen=True, kw_only=True)
class _Finished:
    """A command that has ended: its name, exit code and output."""

    program: str
    returncode: int
    stdout: bytes
    stderr: bytes


def _run(argv: Sequence[str], *, stdin: bytes = b"") -> _Finished:
    try:
        # A session of its own has no terminal to ask for a primary password on.
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
            start_new_session=sys.platform != "darwin",
        )
    except FileNotFoundError as error:
        raise _StoreFailure(f"{argv[0]} is missing") from error
    except subprocess.TimeoutExpired as error:
        raise _StoreFailure(f"{argv[0]} took over {_TIMEOUT_SECONDS:.0f} s") from error
    return _Finished(
        program=argv[0], returncode=done.returncode, stdout=done.stdout, stderr=done.stderr
    )


def _checked(finished: _Finished) -> None:
    if finished.returncode == 0:
        return
    lines = finished.stderr.decode(errors="replace").strip().splitlines()
    raise _StoreFailure(lines[-1] if lines else f"{finished.program} failed")


def _load(ca_pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(ca_pem)
    except ValueError as error:
        raise CertificateError(
            "The authority's certificate cannot be read.",
            remedy="Run `jupbox up`, which makes a new one if needed.",
        ) from error


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex().upper()


def _nothing_written(skipped: Iterable[tuple[Store, str]]) -> TrustError:
    reasons = "; ".join(f"{store.location}: {reason}" for store, reason in skipped)
    return TrustError(f"No trust store could be written. {reasons}.", remedy=_remedy())


def _remedy() -> str:
    if sys.platform != "darwin" and shutil.which("certutil") is None:
        return f"Install certutil: {_certutil_install()}"
    return "Write the certificate out with `jupbox trust --print` and import it in the browser."
