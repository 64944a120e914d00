from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from jupbox.errors import CertificateError, ConfigError
from jupbox.pki import (
    Authority,
    Leaf,
    Names,
    authority_name,
    check_pair,
    covers,
    expires,
    fingerprint,
    issue_leaf,
    leaf_names,
    make_authority,
    needs_renewal,
)
from jupbox.secret import Secret

T = TypeVar("T", bound=x509.ExtensionType)

NOW = datetime.now(UTC).replace(microsecond=0)
NAMES = Names.of(["workbox", "workbox.example.org", "192.0.2.7", "2001:db8::7"])


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority(box="workbox", names=NAMES, now=NOW)


@pytest.fixture(scope="module")
def leaf(authority: Authority) -> Leaf:
    return issue_leaf(authority=authority, names=NAMES, now=NOW)


def handshake(leaf: Leaf, *, trusted: bytes, name: str, directory: Path) -> None:
    """Do a TLS handshake in memory, the client as strict as Python 3.13's default."""
    chain = directory / "chain.pem"
    chain.write_bytes(leaf.certificate_pem + leaf.key_pem.reveal().encode())
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(chain)
    client_context = ssl.create_default_context(cadata=trusted.decode())
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass


def extension(pem: bytes, kind: type[T]) -> x509.Extension[T]:
    return x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(kind)


def sign(
    authority: Authority,
    *,
    dns: list[str],
    ips: list[str] | None = None,
    since: datetime = NOW - timedelta(days=2),
    until: datetime = NOW + timedelta(days=2),
) -> Leaf:
    """Sign with the authority's key whatever is asked, as a thief of the key would."""
    issuer = x509.load_pem_x509_certificate(authority.certificate_pem)
    issuer_key = serialization.load_pem_private_key(authority.key_pem.reveal().encode(), None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ips or []]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "thief")]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
        )
        .sign(issuer_key, hashes.SHA256())
    )
    return Leaf(
        certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
        key_pem=Secret(key_bytes(key)),
    )


def key_bytes(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
    passphrase: bytes | None = None,
) -> bytes:
    encryption: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


# Names


def test_names_are_sorted_once_each_lower_case_and_hold_the_loopback() -> None:
    names = Names.of(["WorkBox.", "10.0.0.2", " workbox ", "9.0.0.1", "[2001:DB8:0::7]", "b"])
    assert names.dns == ("b", "localhost", "workbox")
    assert names.ips == ("9.0.0.1", "10.0.0.2", "127.0.0.1", "::1", "2001:db8::7")


def test_names_made_by_hand_equal_those_that_were_read() -> None:
    by_hand = Names(dns=("LOCALHOST", "a", "a"), ips=("::1", "0:0::1", "127.0.0.1"))
    assert by_hand == Names.of(["a"])


def test_international_names_are_encoded() -> None:
    assert "xn--bcher-kva.example" in Names.of(["Bücher.example"]).dns


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "two words",
        "-leading.example",
        "a..b",
        "*.example.org",
        "https://workbox",
        "workbox:8888",
        "192.0.2.256",
        "1234",
        "box.0x7f",
        "a" * 64,
        ".".join(["a" * 60] * 5),
        "straße.example",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "fe80::1%eth0",
        "line\nbreak",
    ],
)
def test_what_is_no_name_is_refused_by_name_or_dropped(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Names.of([text])
    assert repr(text) in raised.value.message
    assert Names.of([text, "workbox"], drop_invalid=True) == Names.of(["workbox"])


# What stands in the certificates


def test_authority_signs_certificates_only_and_makes_no_other_authority(
    authority: Authority,
) -> None:
    basic = extension(authority.certificate_pem, x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    usage = extension(authority.certificate_pem, x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature
    assert list(extension(authority.certificate_pem, x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]


def test_authority_is_constrained_to_exactly_its_names(authority: Authority) -> None:
    constraints = extension(authority.certificate_pem, x509.NameConstraints)
    assert constraints.critical
    permitted = {str(subtree.value) for subtree in constraints.value.permitted_subtrees or ()}
    assert permitted == {
        "localhost",
        "workbox",
        "workbox.example.org",
        "127.0.0.1/32",
        "192.0.2.7/32",
        "::1/128",
        "2001:db8::7/128",
    }


def test_authority_always_constrains_addresses_too() -> None:
    made = make_authority(box="b", names=Names(dns=("b",), ips=()), now=NOW)
    assert covers(made.certificate_pem, Names.of(["b"]))


def test_covers_tells_more_and_fewer_names_apart(authority: Authority) -> None:
    assert covers(authority.certificate_pem, NAMES)
    assert not covers(authority.certificate_pem, Names.of(["workbox"]))
    assert not covers(authority.certificate_pem, Names.of([*NAMES.dns, *NAMES.ips, "other"]))


def test_covers_is_false_for_an_authority_without_constraints(leaf: Leaf) -> None:
    assert not covers(leaf.certificate_pem, NAMES)


def test_authority_bears_the_boxs_name_however_long_and_a_subject_of_its_own() -> None:
    subjects = [
        x509.load_pem_x509_certificate(
            make_authority(box="b" * 200, names=NAMES, now=NOW).certificate_pem
        ).subject
        for _ in range(2)
    ]
    common = subjects[0].get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert common == authority_name("b" * 200)
    assert str(common).startswith("jupbox CA for bbb")
    assert subjects[0] != subjects[1]


def test_leaf_names_are_the_names_asked_for(leaf: Leaf) -> None:
    assert leaf_names(leaf.certificate_pem) == NAMES


def test_leaf_lives_365_days_and_is_backdated_an_hour(leaf: Leaf) -> None:
    certificate = x509.load_pem_x509_certificate(leaf.certificate_pem)
    assert certificate.not_valid_before_utc == NOW - timedelta(hours=1)
    assert expires(leaf.certificate_pem) == NOW + timedelta(days=365)


def test_leaf_does_not_outlive_its_authority(authority: Authority) -> None:
    late = expires(authority.certificate_pem) - timedelta(days=30)
    made = issue_leaf(authority=authority, names=NAMES, now=late)
    assert expires(made.certificate_pem) == expires(authority.certificate_pem)


def test_each_leaf_has_another_key_and_serial_number(authority: Authority, leaf: Leaf) -> None:
    other = issue_leaf(authority=authority, names=NAMES, now=NOW)
    assert other.key_pem != leaf.key_pem
    serials = {
        x509.load_pem_x509_certificate(each.certificate_pem).serial_number for each in (leaf, other)
    }
    assert len(serials) == 2


def test_no_leaf_from_an_expired_authority(authority: Authority) -> None:
    with pytest.raises(CertificateError, match="expired"):
        issue_leaf(authority=authority, names=NAMES, now=expires(authority.certificate_pem))


def test_no_leaf_beyond_the_authoritys_names(authority: Authority) -> None:
    with pytest.raises(CertificateError, match=r"may not sign for evil\.example"):
        issue_leaf(authority=authority, names=Names.of(["evil.example"]), now=NOW)


@pytest.mark.parametrize("other", ["", "garbage", "of another"])
def test_no_leaf_with_a_key_that_is_not_the_authoritys(authority: Authority, other: str) -> None:
    key = Secret(other)
    if other == "of another":
        key = make_authority(box="b", names=NAMES, now=NOW).key_pem
    broken = Authority(certificate_pem=authority.certificate_pem, key_pem=key)
    with pytest.raises(CertificateError):
        issue_leaf(authority=broken, names=NAMES, now=NOW)


def test_a_time_without_zone_is_refused(authority: Authority) -> None:
    with pytest.raises(ValueError, match="zone"):
        issue_leaf(authority=authority, names=NAMES, now=NOW.replace(tzinfo=None))


def test_times_in_other_zones_mean_the_same(authority: Authority) -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))
    made = issue_leaf(authority=authority, names=NAMES, now=elsewhere)
    assert expires(made.certificate_pem) == NOW + timedelta(days=365)


def test_a_leaf_needs_renewal_from_the_start_of_its_last_third(leaf: Leaf) -> None:
    end = expires(leaf.certificate_pem)
    third = (timedelta(days=365) + timedelta(hours=1)) / 3
    assert not needs_renewal(leaf.certificate_pem, now=NOW)
    assert not needs_renewal(leaf.certificate_pem, now=end - third - timedelta(seconds=1))
    assert needs_renewal(leaf.certificate_pem, now=end - third)
    assert needs_renewal(leaf.certificate_pem, now=end + timedelta(days=1))


def test_fingerprint_is_what_python_computes(leaf: Leaf) -> None:
    der = ssl.PEM_cert_to_DER_cert(leaf.certificate_pem.decode())
    digest = hashes.Hash(hashes.SHA256())
    digest.update(der)
    assert bytes.fromhex(fingerprint(leaf.certificate_pem).replace(":", "")) == digest.finalize()
    assert len(fingerprint(leaf.certificate_pem)) == 95
    assert fingerprint(leaf.certificate_pem).isupper()


@pytest.mark.parametrize("function", [expires, fingerprint, leaf_names])
@pytest.mark.parametrize("pem", [b"", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_what_is_no_certificate_is_an_error_of_ours(
    function: Callable[[bytes], object], pem: bytes
) -> None:
    with pytest.raises(CertificateError):
        function(pem)


def test_keys_show_nowhere(authority: Authority, leaf: Leaf) -> None:
    assert b"PRIVATE" not in authority.certificate_pem + leaf.certificate_pem
    assert "PRIVATE" not in repr(authority) + repr(leaf)


# Handshakes


@pytest.mark.parametrize("name", [*NAMES.dns, *NAMES.ips])
def test_leaf_verifies_by_each_name_and_address(
    authority: Authority, leaf: Leaf, name: str, tmp_path: Path
) -> None:
    handshake(leaf, trusted=authority.certificate_pem, name=name, directory=tmp_path)


@pytest.mark.parametrize("name", ["other.example", "192.0.2.8", "work"])
def test_leaf_does_not_verify_for_another_name(
    authority: Authority, leaf: Leaf, name: str, tmp_path: Path
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(leaf, trusted=authority.certificate_pem, name=name, directory=tmp_path)


@pytest.mark.parametrize(
    ("dns", "ips", "name"),
    [
        (["bank.example"], [], "bank.example"),
        (["workbox", "bank.example"], [], "workbox"),
        ([], ["192.0.2.8"], "192.0.2.8"),
        ([], ["2001:db8::8"], "2001:db8::8"),
        (["example.org"], [], "example.org"),
    ],
)
def test_a_stolen_authority_key_is_worth_nothing_for_other_names(
    authority: Authority, dns: list[str], ips: list[str], name: str, tmp_path: Path
) -> None:
    stolen = sign(authority, dns=dns, ips=ips)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        handshake(stolen, trusted=authority.certificate_pem, name=name, directory=tmp_path)


def test_an_expired_leaf_is_refused(authority: Authority, tmp_path: Path) -> None:
    old = sign(authority, dns=["workbox"], until=NOW - timedelta(minutes=1))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(old, trusted=authority.certificate_pem, name="workbox", directory=tmp_path)


def test_a_client_whose_clock_is_an_hour_slow_accepts_a_fresh_pair(tmp_path: Path) -> None:
    # The client has this machine's clock; the makers' is ahead of it.
    ahead = datetime.now(UTC) + timedelta(minutes=59, seconds=50)
    made = make_authority(box="b", names=NAMES, now=ahead)
    fresh = issue_leaf(authority=made, names=NAMES, now=ahead)
    handshake(fresh, trusted=made.certificate_pem, name="workbox", directory=tmp_path)


def test_a_client_whose_clock_is_slower_still_refuses(tmp_path: Path) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=2)
    made = make_authority(box="b", names=NAMES, now=ahead)
    fresh = issue_leaf(authority=made, names=NAMES, now=ahead)
    with pytest.raises(ssl.SSLCertVerificationError, match="not yet valid"):
        handshake(fresh, trusted=made.certificate_pem, name="workbox", directory=tmp_path)


def test_another_authority_of_the_same_box_does_not_verify_the_leaf(
    leaf: Leaf, tmp_path: Path
) -> None:
    other = make_authority(box="workbox", names=NAMES, now=NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="local issuer"):
        handshake(leaf, trusted=other.certificate_pem, name="workbox", directory=tmp_path)


def test_a_renewed_leaf_verifies_with_the_same_authority(
    authority: Authority, tmp_path: Path
) -> None:
    renewed = issue_leaf(authority=authority, names=NAMES, now=NOW)
    handshake(renewed, trusted=authority.certificate_pem, name="workbox", directory=tmp_path)


# A user's own pair


def own_pair(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
    *,
    names: list[str],
    usage: x509.ObjectIdentifier | None = None,
) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "own.example")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=9))
    )
    if names:
        general = [x509.DNSName(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def own_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def test_accepts_a_pair_that_fits(
    authority: Authority, leaf: Leaf, own_key: rsa.RSAPrivateKey
) -> None:
    check_pair(
        certificate_pem=leaf.certificate_pem + authority.certificate_pem,
        key_pem=leaf.key_pem.reveal().encode(),
        now=NOW,
    )
    check_pair(
        certificate_pem=own_pair(own_key, names=["*.example"]), key_pem=key_bytes(own_key), now=NOW
    )


def test_accepts_the_key_file_that_openssl_ecparam_writes() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    traditional = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    check_pair(
        certificate_pem=own_pair(key, names=["own.example"]),
        key_pem=parameters + traditional,
        now=NOW,
    )


def refusal(certificate_pem: bytes, key_pem: bytes, now: datetime = NOW) -> str:
    with pytest.raises(CertificateError) as raised:
        check_pair(certificate_pem=certificate_pem, key_pem=key_pem, now=now)
    assert "BEGIN" not in raised.value.message
    assert raised.value.__cause__ is None
    return raised.value.message


def test_refuses_a_pair_that_does_not_fit(
    authority: Authority, leaf: Leaf, own_key: rsa.RSAPrivateKey
) -> None:
    certificate, key = leaf.certificate_pem, leaf.key_pem.reveal().encode()
    assert "does not belong" in refusal(certificate, key_bytes(own_key))
    assert "not the first" in refusal(authority.certificate_pem + certificate, key)
    assert "certificate cannot be read" in refusal(b"no pem", key)
    assert "private key cannot be read" in refusal(certificate, b"no pem")
    assert "private key cannot be read" in refusal(certificate, b"")
    assert "encrypted" in refusal(certificate, key_bytes(own_key, b"passphrase"))
    assert "holds a private key" in refusal(certificate + key, key)
    assert "holds a private key" in refusal(key, certificate)
    assert "expired" in refusal(certificate, key, NOW + timedelta(days=366))
    assert "not valid before" in refusal(certificate, key, NOW - timedelta(hours=2))


def test_refuses_a_pair_that_browsers_or_openssl_refuse(own_key: rsa.RSAPrivateKey) -> None:
    assert "names no host" in refusal(own_pair(own_key, names=[]), key_bytes(own_key))
    mail = own_pair(own_key, names=["own.example"], usage=ExtendedKeyUsageOID.EMAIL_PROTECTION)
    assert "not for servers" in refusal(mail, key_bytes(own_key))
    small = rsa.generate_private_key(65537, 1024)
    assert "kind or size" in refusal(own_pair(small, names=["a.example"]), key_bytes(small))
    edwards = ed25519.Ed25519PrivateKey.generate()
    assert "kind or size" in refusal(own_pair(edwards, names=["a.example"]), key_bytes(edwards))
