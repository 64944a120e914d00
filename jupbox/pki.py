"""A box's certificate authority and its server's certificate, as bytes.

The authority is constrained to exactly the box's names, so that trusting it gives away nothing but
the box itself. Nothing here reads a clock or a file: the time is passed in, bytes come out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from jupbox.errors import CertificateError, ConfigError
from jupbox.secret import Secret

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# People install the authority by hand on each laptop, so it should outlive the box; browsers put
# no limit on the life of a root that the user added.
AUTHORITY_LIFE: Final = timedelta(days=3650)
# Apple's systems refuse a server certificate of more than 825 days (398 under a public root,
# support.apple.com/103769, 102028); a year is below both, and each verb renews it on the way.
LEAF_LIFE: Final = timedelta(days=365)
# A laptop or box whose clock is up to an hour slow must not see a certificate of the future.
BACKDATE: Final = timedelta(hours=1)
# OpenSSL at Debian's security level 2 does not load a smaller RSA key.
_RSA_MIN_BITS: Final = 2048
# X.520's upper bound for a common name.
_COMMON_NAME_MAX: Final = 64

LOOPBACK_DNS: Final = ("localhost",)
LOOPBACK_IPS: Final = ("127.0.0.1", "::1")

# The underscore is no host name's by RFC 1123, but machines are named so and browsers accept it.
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
# A last label of this form makes browsers read the whole as an IPv4 address.
_NUMBER: Final = re.compile(r"\d+|0x[0-9a-f]*")
# Letters that Python's IDNA 2003 maps away and browsers (IDNA 2008) keep: ß ς ZWNJ ZWJ.
_IDNA_DEVIATIONS: Final = frozenset("\u00df\u1e9e\u03c2\u200c\u200d")


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names and addresses under which a box is reached; sorted, each once, lower case.

    Attributes:
        dns: host names, IDNA-encoded, without a final dot.
        ips: addresses in their shortest form, IPv4 before IPv6.
    """

    dns: tuple[str, ...]
    ips: tuple[str, ...]

    def __post_init__(self) -> None:
        # Two of the same names are equal however they were made.
        object.__setattr__(self, "dns", tuple(sorted({name.lower() for name in self.dns})))
        addresses = {ipaddress.ip_address(address) for address in self.ips}
        ordered = sorted(addresses, key=lambda address: (address.version, int(address)))
        object.__setattr__(self, "ips", tuple(str(address) for address in ordered))

    @classmethod
    def of(cls, texts: Iterable[str], *, drop_invalid: bool = False) -> Names:
        """Sort host names and addresses into `Names`; the loopback's are always among them.

        Args:
            texts: names (also international ones, also with a final dot) and addresses (IPv6 with
                or without brackets), in any order.
            drop_invalid: leave out what is neither, for what a machine says about itself.

        Raises:
            ConfigError: one is neither, and `drop_invalid` is not set.
        """
        dns: list[str] = []
        ips: list[str] = []
        for text in texts:
            try:
                address = _address(text)
                if address is not None:
                    ips.append(str(address))
                else:
                    dns.append(_host_name(text))
            except ConfigError:
                if not drop_invalid:
                    raise
        return cls(dns=tuple(dns), ips=tuple(ips)).with_loopback()

    def with_loopback(self) -> Names:
        """Return the names with localhost, 127.0.0.1 and ::1 added, by which tunnels arrive."""
        return Names(dns=self.dns + LOOPBACK_DNS, ips=self.ips + LOOPBACK_IPS)


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A box's certificate authority: what clients trust, and the key that signs its leaves."""

    certificate_pem: bytes
    key_pem: Secret


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A server's certificate, without its authority's, and its key."""

    certificate_pem: bytes
    key_pem: Secret


def authority_name(box: str) -> str:
    """Return the common name of a box's authority, which is its name in trust stores too."""
    return f"jupbox CA for {box}"[:_COMMON_NAME_MAX]


def make_authority(*, box: str, names: Names, now: datetime) -> Authority:
    """Make an authority that can sign for exactly the given names, for ten years.

    Args:
        box: the box's name, shown to whoever looks at the certificate.
        names: what it may sign for; the loopback's names are added.
        now: the time, with its zone.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # The key's own digits make each subject unique: NSS keeps certificates by subject and gives all
    # of one subject a single nickname, so a new CA could not be told from the one it replaces.
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "jupbox"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, identifier.digest.hex()[:16]),
            x509.NameAttribute(NameOID.COMMON_NAME, authority_name(box)),
        ]
    )
    builder = (
        _builder(subject=subject, key=key, now=now, until=_utc(now) + AUTHORITY_LIFE)
        .issuer_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        # Name constraints bind names and addresses only; this keeps the key from signing for
        # mail, programs or clients where the system's store trusts it for everything.
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_constraints(names), critical=True)
        .add_extension(identifier, critical=False)
    )
    return Authority(
        certificate_pem=_pem(builder.sign(key, hashes.SHA256())), key_pem=_key_pem(key)
    )


def issue_leaf(*, authority: Authority, names: Names, now: datetime) -> Leaf:
    """Issue a server's certificate for a year, or for what is left of its authority's life.

    Args:
        authority: who signs.
        names: what the certificate is for; no more than the authority's own names.
        now: the time, with its zone.

    Raises:
        CertificateError: the authority has expired, cannot be read, or may not sign for a name.
    """
    issuer = _load(authority.certificate_pem)
    _check_authority(issuer, names=names, now=_utc(now))
    key = ec.generate_private_key(ec.SECP256R1())
    until = min(_utc(now) + LEAF_LIFE, issuer.not_valid_after_utc)
    issuer_identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(subject=_leaf_subject(names), key=key, now=now, until=until)
        .issuer_name(issuer.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_alternative_names(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_identifier),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    signed = builder.sign(_signing_key(authority), hashes.SHA256())
    return Leaf(certificate_pem=_pem(signed), key_pem=_key_pem(key))


def covers(authority_pem: bytes, names: Names) -> bool:
    """Tell whether an authority is constrained to exactly these names (and the loopback's).

    Raises:
        CertificateError: it is no certificate.
    """
    return _constrained_names(_load(authority_pem)) == names.with_loopback()


def leaf_names(cert_pem: bytes) -> Names:
    """Return the names that a certificate is for; of a chain, the first one's.

    Raises:
        CertificateError: it is no certificate.
    """
    return _alternative_names_of(_load(cert_pem))


def needs_renewal(cert_pem: bytes, *, now: datetime) -> bool:
    """Tell whether a third or less of a certificate's life is left.

    Raises:
        CertificateError: it is no certificate.
    """
    certificate = _load(cert_pem)
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return (certificate.not_valid_after_utc - _utc(now)) * 3 <= life


def expires(cert_pem: bytes) -> datetime:
    """Return the end of a certificate's life, in UTC.

    Raises:
        CertificateError: it is no certificate.
    """
    return _load(cert_pem).not_valid_after_utc


def fingerprint(cert_pem: bytes) -> str:
    """Return a certificate's SHA-256 fingerprint as browsers show it, `AB:CD:…`.

    Raises:
        CertificateError: it is no certificate.
    """
    return _load(cert_pem).fingerprint(hashes.SHA256()).hex(":").upper()


def check_pair(*, certificate_pem: bytes, key_pem: bytes, now: datetime) -> None:
    """Check that a user's own certificate and key can serve browsers.

    Args:
        certificate_pem: the certificate, followed by its intermediates if it has any.
        key_pem: its private key, not encrypted.
        now: the time, with its zone.

    Raises:
        CertificateError: one cannot be read, the key is encrypted or belongs to another
            certificate, the certificate is out of its time, names nothing, or is of a kind that
            browsers or OpenSSL refuse.
    """
    # The certificate's file is readable to all on the box.
    if b"PRIVATE KEY-----" in certificate_pem:
        raise CertificateError(
            "The certificate file holds a private key.",
            remedy="Put the certificate in tls.cert and the key in tls.key, each alone.",
        )
    chain = _load_chain(certificate_pem)
    public = _load_users_key(key_pem)
    if not _same_key(chain[0], public):
        raise _mismatch(chain, public)
    _check_life(chain[0], now=_utc(now))
    _check_purpose(chain[0])


def _address(text: str) -> Address | None:
    """Return the address that a text is, or None for one that is a name or nothing."""
    bare = text.strip()
    if bare.startswith("[") and bare.endswith("]"):
        bare = bare[1:-1]
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None
    if getattr(address, "scope_id", None) or address.is_unspecified or address.is_multicast:
        raise ConfigError(
            f"{text!r} is not an address that a browser can go to.",
            remedy="Give the address of one machine, without a zone.",
        )
    return address


def _host_name(text: str) -> str:
    """Return a host name in lower case and IDNA, or raise ConfigError."""
    bare = text.strip().lower()
    name = bare[:-1] if bare.endswith(".") else bare
    if _IDNA_DEVIATIONS.intersection(name):
        raise ConfigError(
            f"{text!r} holds a letter that old and new IDNA write differently.",
            remedy="Give the name in its encoded form, which begins with xn--.",
        )
    try:
        encoded = name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        encoded = ""
    labels = encoded.split(".")
    well_formed = len(encoded) <= 253 and all(_LABEL.fullmatch(label) for label in labels)
    if not well_formed or _NUMBER.fullmatch(labels[-1]):
        raise ConfigError(
            f"{text!r} is neither a host name nor an address.",
            remedy="Give names such as box.example.org and addresses such as 192.0.2.7.",
        )
    return encoded


def _utc(now: datetime) -> datetime:
    if now.tzinfo is None:
        raise ValueError("the time needs a zone")
    return now.astimezone(UTC).replace(microsecond=0)


def _builder(
    *, subject: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        # At random: Firefox refuses two certificates of one issuer and serial number.
        .serial_number(x509.random_serial_number())
        .not_valid_before(_utc(now) - BACKDATE)
        .not_valid_after(until)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _constraints(names: Names) -> x509.NameConstraints:
    # Both kinds are always there: a kind without an entry would be free altogether.
    permitted = names.with_loopback()
    subtrees: list[x509.GeneralName] = [x509.DNSName(name) for name in permitted.dns]
    subtrees += [x509.IPAddress(ipaddress.ip_network(address)) for address in permitted.ips]
    return x509.NameConstraints(permitted_subtrees=subtrees, excluded_subtrees=None)


def _constrained_names(authority: x509.Certificate) -> Names | None:
    """Return the single names that an authority is held to, None if it is held otherwise."""
    try:
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None
    dns: list[str] = []
    ips: list[str] = []
    for subtree in constraints.permitted_subtrees or ():
        if isinstance(subtree, x509.DNSName):
            dns.append(subtree.value)
        elif isinstance(subtree, x509.IPAddress):
            network = ipaddress.ip_network(str(subtree.value))
            if network.num_addresses != 1:
                return None
            ips.append(str(network.network_address))
        else:
            return None
    if constraints.excluded_subtrees:
        return None
    return Names(dns=tuple(dns), ips=tuple(ips))


def _alternative_names(names: Names) -> x509.SubjectAlternativeName:
    general: list[x509.GeneralName] = [x509.DNSName(name) for name in names.dns]
    general += [x509.IPAddress(ipaddress.ip_address(address)) for address in names.ips]
    return x509.SubjectAlternativeName(general)


def _alternative_names_of(certificate: x509.Certificate) -> Names:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Names(dns=(), ips=())
    return Names(
        dns=tuple(names.get_values_for_type(x509.DNSName)),
        ips=tuple(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    )


def _leaf_subject(names: Names) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "jupbox")]
    fitting = [name for name in names.dns if len(name) <= _COMMON_NAME_MAX]
    foreign = [name for name in fitting if name not in LOOPBACK_DNS]
    # Only for people to read; no client looks for the host's name here any more.
    for name in (foreign or fitting)[:1]:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, name))
    return x509.Name(attributes)


def _check_authority(issuer: x509.Certificate, *, names: Names, now: datetime) -> None:
    if issuer.not_valid_after_utc <= now:
        raise CertificateError(
            f"The box's certificate authority expired on {issuer.not_valid_after_utc:%Y-%m-%d}.",
            remedy="Run `jupbox up` for a new one, then `jupbox trust`.",
        )
    permitted = _constrained_names(issuer) or Names(dns=(), ips=())
    beyond = sorted({*names.dns, *names.ips} - {*permitted.dns, *permitted.ips})
    if beyond:
        raise CertificateError(
            f"The box's certificate authority may not sign for {', '.join(beyond)}.",
            remedy="Run `jupbox up` for a new one, then `jupbox trust`.",
        )


def _signing_key(authority: Authority) -> ec.EllipticCurvePrivateKey:
    remedy = "Run `jupbox up` for a new one, then `jupbox trust`."
    try:
        key = serialization.load_pem_private_key(authority.key_pem.reveal().encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # `from None`: the library's message may quote what it could not read.
        raise CertificateError(
            "The key of the box's certificate authority cannot be read.", remedy=remedy
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not _same_key(
        _load(authority.certificate_pem), _spki(key.public_key())
    ):
        raise CertificateError(
            "The key of the box's certificate authority is not its own.", remedy=remedy
        )
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> Secret:
    return Secret(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def _spki(public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> bytes:
    return public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _same_key(certificate: x509.Certificate, spki: bytes) -> bool:
    try:
        public = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    return (
        public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        == spki
    )


def _load(pem: bytes) -> x509.Certificate:
    return _load_chain(pem)[0]


def _load_chain(pem: bytes) -> list[x509.Certificate]:
    try:
        chain = x509.load_pem_x509_certificates(pem)
        for certificate in chain:
            # Parsed when first asked for; what is malformed must show here and not later.
            _ = certificate.extensions
        return chain
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise CertificateError(
            "The certificate cannot be read (not PEM, or malformed).",
            remedy="It must hold a block that starts with -----BEGIN CERTIFICATE-----.",
        ) from None


def _load_users_key(pem: bytes) -> bytes:
    """Return the public half (DER) of a user's own private key."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except TypeError:
        raise CertificateError(
            "The private key is encrypted.",
            remedy="Write it without a passphrase: openssl pkey -in KEY -out PLAIN_KEY",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(
            "The private key cannot be read as PEM.",
            remedy="It must hold a block that starts with -----BEGIN PRIVATE KEY-----.",
        ) from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _RSA_MIN_BITS:
        return _spki(key.public_key())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _spki(key.public_key())
    raise CertificateError(
        "The private key is of a kind or size that browsers or OpenSSL refuse.",
        remedy=f"Use an ECDSA P-256 key, or RSA with {_RSA_MIN_BITS} bits or more.",
    )


def _mismatch(chain: list[x509.Certificate], spki: bytes) -> CertificateError:
    if any(_same_key(certificate, spki) for certificate in chain[1:]):
        return CertificateError(
            "The server's certificate is not the first one in its file.",
            remedy="Put it first, then its intermediates, each followed by its issuer.",
        )
    return CertificateError(
        "The private key does not belong to the certificate.",
        remedy="Give the key that the certificate was requested with.",
    )


def _check_life(certificate: x509.Certificate, *, now: datetime) -> None:
    if certificate.not_valid_after_utc <= now:
        raise CertificateError(
            f"The certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC.",
            remedy="Give a renewed one, or leave out tls.cert and tls.key to get jupbox's own.",
        )
    if certificate.not_valid_before_utc > now:
        raise CertificateError(
            "The certificate is not valid before "
            f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC.",
            remedy="Wait until then, or check this machine's clock.",
        )


def _check_purpose(certificate: x509.Certificate) -> None:
    if _alternative_names_of(certificate) == Names(dns=(), ips=()):
        raise CertificateError(
            "The certificate names no host (it has no subject alternative name).",
            remedy="Request one with the box's names in it; browsers ignore the common name.",
        )
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & {
        *usages
    }:
        raise CertificateError(
            "The certificate is not for servers (its extended key usage lacks serverAuth).",
            remedy="Request one for a TLS server.",
        )
