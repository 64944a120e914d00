"""A site without an engine, and what its user may bring along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from jupbox import labels as label
from jupbox.host import stack as stacks
from jupbox.host.engine import Engine
from jupbox.host.facts import HostFacts, parse
from jupbox.host.machine import LocalMachine
from jupbox.host.stack import State
from jupbox.project import Box, Project, TlsFiles, parse_project, shipped_definitions
from jupbox.release import sealing
from jupbox.render import Account, volume_names
from jupbox.site import Site, Surroundings
from tests.unit.fakes import FakeEngine, FakeMachine, container, unpacked
from tests.unit.host.test_facts import answer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FACTS = parse(answer(listening=""))
STACK = "jupbox-alice_workbox"
MINE = {label.STACK: STACK, label.KIND: "server"}


def project(root: Path | None = None, text: str | None = None) -> Project:
    return parse_project(
        text,
        source="jupbox.toml",
        root=root,
        user_text=None,
        user_source="config.toml",
        shipped=shipped_definitions(),
    )


@dataclass
class Bench:
    """A site whose parts a test may look into."""

    site: Site
    engine: FakeEngine
    machine: FakeMachine

    @property
    def state(self) -> State:
        return stacks.observe(cast(Engine, self.engine), STACK)


def bench(
    *,
    box: Box | None = None,
    facts: HostFacts = FACTS,
    root: Path | None = None,
    home: Path = Path("/nowhere"),
    machine: FakeMachine | None = None,
) -> Bench:
    engine, machine = FakeEngine(), machine or FakeMachine()
    site = Site(
        project=project(root),
        box=box or Box(name="workbox", host="workbox"),
        machine=cast(LocalMachine, machine),
        facts=facts,
        engine=cast(Engine, engine),
        around=Surroundings(cwd=Path("/nowhere"), home=home, environ={}, now=lambda: NOW),
    )
    return Bench(site=site, engine=engine, machine=machine)


def with_box(made: Bench, **changes: Any) -> Site:
    return replace(made.site, box=replace(made.site.box, **changes))


def sealed_bench(*, deployed: bool = True) -> Bench:
    """A site with a first release; its server runs if it is deployed."""
    made = bench()
    prepared = sealing.prepare(made.site, made.state, image="any", certify=True)
    _, files = sealing.seal(
        made.site,
        made.state,
        prepared.credentials,
        account=Account(name="alice", uid=1, gid=2),
        lock="lock",
        image_name="minimal",
        body="body",
        recipe="recipe",
        purpose="live",
    )
    if deployed:
        volume = volume_names(STACK, 1)["seal"]
        made.engine.all_volumes[volume] = {label.STACK: STACK}
        made.engine.in_volumes[volume] = unpacked(files)
        made.engine.all_containers.append(
            container("server", {**MINE, label.GENERATION: "1"}, volumes={stacks.SEAL: volume})
        )
    return made


def own_pair(*names: str, addresses: Sequence[str] = ()) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "own")])
    general = [x509.DNSName(name) for name in names]
    certificate = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=90))
        .add_extension(
            x509.SubjectAlternativeName(
                [*general, *(x509.IPAddress(ip_address(a)) for a in addresses)]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(pem), private


@dataclass
class Own:
    """A site whose box brings a certificate of its user's own."""

    folder: Path
    site: Site = field(init=False)

    def write(self, certificate: bytes, key: bytes) -> Site:
        (self.folder / "cert.pem").write_bytes(certificate)
        (self.folder / "key.pem").write_bytes(key)
        tls = TlsFiles(cert=self.folder / "cert.pem", key=self.folder / "key.pem")
        self.site = with_box(bench(), tls=tls)
        return self.site
