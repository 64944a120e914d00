"""How a box is reached: addresses, ports, certificates, and its other settings, on one host."""

from __future__ import annotations

import datetime
import ipaddress
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.boxes.boxes import BoxUnderTest
from tests.integration.jupbox_command import Answer, Laptop, MainJob, StackOnBox, Visitor


@dataclass(frozen=True, kw_only=True)
class ProjectBox:
    """A box of a project of its own, on storebox beside ada's."""

    laptop: Laptop
    stack: StackOnBox

    @property
    def box(self) -> BoxUnderTest:
        return self.stack.box

    def up(self, settings: str) -> Answer:
        """`up` with these lines as the box's table."""
        name = self.stack.name.removeprefix("jupbox-ada_")
        (self.laptop.folder / "jupbox.toml").write_text(
            f'[boxes.{name}]\nhost = "storebox"\n{settings}\n'
        )
        return self.laptop.must("up")

    def visitor(self, server_name: str) -> Visitor:
        """A visitor at the box's address on this machine's bridge."""
        ca_pem = self.laptop.must("trust", "--print").stdout
        return Visitor(address=self.box.address, port=self.port, ca_pem=ca_pem,
                       server_name=server_name)  # fmt: skip

    @property
    def bindings(self) -> list[dict[str, str]]:
        return list(self.stack.inspect()["HostConfig"]["PortBindings"]["8888/tcp"])

    @property
    def port(self) -> int:
        return int(self.bindings[0]["HostPort"])


def project_box(job: MainJob, folder: Path, name: str) -> Iterator[ProjectBox]:
    folder.mkdir(exist_ok=True)
    # as a team shares it; resolving it anew for each test would only take time
    shutil.copy(job.lock, folder)
    stack = StackOnBox(box=job.box, name=f"jupbox-ada_{name}")
    try:
        yield ProjectBox(laptop=job.laptop.at(folder), stack=stack)
    finally:
        stack.remove()


@pytest.fixture
def front(ada_on_store: MainJob, tmp_path: Path) -> Iterator[ProjectBox]:
    yield from project_box(ada_on_store, tmp_path / "front", "front")


@pytest.fixture
def side(ada_on_store: MainJob, tmp_path: Path) -> Iterator[ProjectBox]:
    yield from project_box(ada_on_store, tmp_path / "side", "side")


def bridge_addresses(box: BoxUnderTest) -> set[str]:
    """The box's addresses on the bridges of its own engine."""
    links = json.loads(box.exec("ip", "-j", "address"))
    return {
        entry["local"]
        for link in links
        if link["ifname"].startswith(("docker", "br-"))
        for entry in link["addr_info"]
    }


@pytest.mark.slow
def test_a_public_box_answers_at_its_address_with_a_certificate_for_it(front: ProjectBox) -> None:
    tunnelled = front.up('port = "auto"\nfiles = "volume"')
    port = front.port
    assert "trust" in tunnelled.stdout
    assert front.bindings == [{"HostIp": "127.0.0.1", "HostPort": str(port)}]
    before = front.visitor("localhost")
    with pytest.raises(OSError):
        before.certificate()

    public = front.up(
        'expose = "public"\nport = "auto"\nfiles = "volume"\nnames = ["notebooks.example.org"]'
    )

    assert f"https://notebooks.example.org:{port}/lab" in public.stdout
    assert "jupbox trust front" in public.stdout + public.stderr
    assert front.bindings == [{"HostIp": "", "HostPort": str(port)}]
    for name in (front.box.address, "localhost", "notebooks.example.org", "storebox"):
        certificate = front.visitor(name).certificate()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert front.box.address in addresses
    assert bridge_addresses(front.box)
    assert not addresses & bridge_addresses(front.box)
    assert front.visitor("localhost").log_in(tunnelled.password or "")


@pytest.mark.slow
def test_memory_files_and_port_are_as_the_project_says(
    front: ProjectBox, side: ProjectBox, ada_on_store: MainJob
) -> None:
    front.up('port = "auto"\nfiles = "volume"\nmemory = "1g"')
    container = front.stack.inspect()
    assert container["HostConfig"]["Memory"] == 1 << 30
    assert container["HostConfig"]["ShmSize"] == 1 << 29
    assert [mount["Type"] for mount in container["Mounts"]] == ["volume"] * 3
    front.stack.python("open('/home/ada/notebooks/kept.txt', 'w').write('in the volume')")
    port = front.port
    assert port != int(ada_on_store.inspect_port())

    # its own port, which it keeps while it is stopped
    front.laptop.must("down")
    side.up('port = "auto"\nfiles = "volume"')
    assert len({side.port, port, int(ada_on_store.inspect_port())}) == 3
    front.stack.docker("rm", front.stack.inspect()["Id"])
    front.up('port = "auto"\nfiles = "volume"\nmemory = "2g"')
    assert front.stack.inspect()["HostConfig"]["Memory"] == 2 << 30
    assert front.stack.exec("cat", "/home/ada/notebooks/kept.txt") == "in the volume"


def own_certificate(folder: Path, *, address: str) -> str:
    """A certificate and key of one's own in `folder`; the fingerprint as browsers show it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "one's own")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(address))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "box.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "box.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


@pytest.mark.slow
def test_one_address_and_a_certificate_of_ones_own_changed_with_no_restart(
    side: ProjectBox,
) -> None:
    address = side.box.address
    settings = (
        f'expose = "{address}"\nport = "auto"\nfiles = "volume"\n'
        'tls = { cert = "box.pem", key = "box.key" }'
    )
    first = own_certificate(side.laptop.folder, address=address)
    up = side.up(settings)
    port = side.port
    assert f"https://{address}:{port}/lab" in up.stdout
    assert side.bindings == [
        {"HostIp": "127.0.0.1", "HostPort": str(port)},
        {"HostIp": address, "HostPort": str(port)},
    ]
    assert side.visitor(address).fingerprint() == first

    identity = side.stack.identity()
    second = own_certificate(side.laptop.folder, address=address)
    side.up(settings)
    assert side.visitor(address).fingerprint() == second
    assert side.stack.identity() == identity
    assert "Nothing to do" in side.up(settings).stdout
