"""Environment images: a project's own definition, its lock, and that nothing secret is in them."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.boxes.boxes import BoxUnderTest
from tests.integration.boxes.images import debian_mirror
from tests.integration.jupbox_command import Answer, Laptop, MainJob, Saved, StackOnBox, save
from tests.integration.package_sources import Service, make_wheel, private_index, proxy

WHEEL = make_wheel("jupbox-test-marker", "1.2.3", "ANSWER = 42\n")
PROJECT = """\
[images.datasci]
extends = "minimal"
python = ["jupbox-test-marker>=1"]
apt = ["tree"]

[boxes.datasci]
host = "storebox"
image = "datasci"
files = "volume"
port = "auto"
"""
# None of these may be found again. They stand where users have them: in URLs, and in a CA bundle.
INDEX_USER, INDEX_PASSWORD = "index-reader-7c1f", "index-secret-f0b94d"
PROXY_USER, PROXY_PASSWORD = "proxy-user-3e5a", "proxy-secret-81d2c6"


@dataclass(frozen=True, kw_only=True)
class Built:
    """What `up` of the project's box made, behind the proxy, with the index and the CA bundle."""

    laptop: Laptop
    stack: StackOnBox
    first: Answer
    index: Service
    proxy: Service
    authority: str

    @property
    def lock(self) -> Path:
        return self.laptop.folder / "jupbox.lock"

    @property
    def definition(self) -> Path:
        return self.laptop.folder / "jupbox.toml"

    @property
    def environment_image(self) -> str:
        found = self.stack.docker(
            "image", "ls", "--quiet", "--no-trunc",
            "--filter", "label=dev.jupbox.kind=environment",
            "--filter", "label=dev.jupbox.image=datasci",
        )  # fmt: skip
        (image,) = set(found.split())  # under two names: its lock's, and its digest's
        return image

    @property
    def markers(self) -> dict[str, bytes]:
        """What may not be found, by what it is."""
        return {
            "index user": INDEX_USER.encode(),
            "index password": INDEX_PASSWORD.encode(),
            "index address": f"{self.index.address}:{self.index.port}".encode(),
            "proxy user": PROXY_USER.encode(),
            "proxy password": PROXY_PASSWORD.encode(),
            "proxy address": f"{self.proxy.address}:{self.proxy.port}".encode(),
            "CA": self.authority.splitlines()[2].encode(),
        }


def network_authority() -> str:
    """A CA of no consequence, as a company's proxy has one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A company's own CA")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=30))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def gateway_of(box: BoxUnderTest) -> str:
    """This machine's address as the box and its containers see it."""
    (route,) = json.loads(box.exec("ip", "-j", "route", "show", "default"))
    return str(route["gateway"])


@pytest.fixture(scope="module")
def _keep() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


_BUILT: list[Built] = []


@pytest.fixture
def built(ada_on_store: MainJob, _keep: ExitStack) -> Built:
    """The project's box, up once for all tests of this module."""
    if not _BUILT:
        _BUILT.append(_build(ada_on_store, _keep))
        _keep.callback(_BUILT.clear)
    return _BUILT[0]


def _build(job: MainJob, keep: ExitStack) -> Built:
    address = gateway_of(job.box)
    index = keep.enter_context(
        private_index(WHEEL, address=address, user=INDEX_USER, password=INDEX_PASSWORD)
    )
    way_out = keep.enter_context(proxy(address=address, user=PROXY_USER, password=PROXY_PASSWORD))
    folder = Path(tempfile.mkdtemp(prefix="jupboxtest-"))
    keep.callback(shutil.rmtree, folder, ignore_errors=True)
    (folder / "jupbox.toml").write_text(PROJECT)
    authority = network_authority()
    usual = os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt"
    (folder / "bundle.pem").write_text(Path(usual).read_text() + authority)
    laptop = job.laptop.at(
        folder,
        UV_INDEX=f"{index.url}/simple",
        HTTP_PROXY=way_out.url,
        HTTPS_PROXY=way_out.url,
        NO_PROXY=f"localhost,127.0.0.1,{address}",
        SSL_CERT_FILE=str(folder / "bundle.pem"),
    )
    stack = StackOnBox(box=job.box, name="jupbox-ada_datasci")
    keep.callback(stack.remove)
    first = laptop.must("up")
    return Built(laptop=laptop, stack=stack, first=first, index=index, proxy=way_out,
                 authority=authority)  # fmt: skip


# --- the definition and its lock --------------------------------------------------------------


@pytest.mark.slow
def test_the_image_holds_what_the_definition_adds(built: Built) -> None:
    assert built.stack.python("import jupbox_test_marker as m; print(m.ANSWER)") == "42\n"
    assert "tree v" in built.stack.exec("tree", "--version")
    assert built.stack.python("import jupyterlab, ipykernel") == ""
    assert built.index.seen and built.proxy.seen


@pytest.mark.slow
def test_a_second_lock_gives_the_same_bytes(built: Built) -> None:
    before = built.lock.read_bytes()
    built.laptop.must("lock")
    assert built.lock.read_bytes() == before
    assert "Nothing to do" in built.laptop.must("up").stdout


@pytest.mark.slow
def test_the_lock_names_no_host_and_no_secret(built: Built) -> None:
    text = built.lock.read_bytes()
    assert b"jupbox-test-marker" in text and b'name = "tree"' in text
    assert b"://" not in text
    assert [what for what, marker in built.markers.items() if marker in text] == []
    assert (urlsplit(debian_mirror()).hostname or "").encode() not in text


@pytest.mark.slow
def test_a_changed_definition_is_refused_with_the_command_that_locks_it(built: Built) -> None:
    before = built.lock.read_bytes(), built.stack.identity()
    built.definition.write_text(PROJECT.replace('"tree"', '"tree", "jq"'))
    try:
        refused = built.laptop.jupbox("up")
    finally:
        built.definition.write_text(PROJECT)
    assert refused.code == 5
    assert "does not match the definition of datasci" in refused.stderr
    assert "`jupbox lock datasci`" in refused.stderr
    assert (built.lock.read_bytes(), built.stack.identity()) == before


# --- what is in it ----------------------------------------------------------------------------


@pytest.fixture
def saved(built: Built, _keep: ExitStack) -> Saved:
    if not _SAVED:
        _SAVED.append(save(built.stack.box, built.environment_image))
        _keep.callback(_SAVED.clear)
    return _SAVED[0]


_SAVED: list[Saved] = []


@pytest.mark.slow
def test_nothing_of_the_network_is_in_the_environment_image(built: Built, saved: Saved) -> None:
    assert saved.holds(b"jupbox_test_marker")
    assert [what for what, marker in built.markers.items() if saved.holds(marker)] == []


@pytest.mark.slow
def test_nothing_of_the_network_is_in_the_history(built: Built) -> None:
    history = built.stack.docker("history", "--no-trunc", built.environment_image)
    inspected = built.stack.docker("inspect", built.environment_image)
    for text in (history, inspected):
        assert [what for what, m in built.markers.items() if m.decode() in text] == []
        assert "PROXY" not in text.upper()
        assert (urlsplit(debian_mirror()).hostname or "") not in text


@pytest.mark.slow
def test_no_mirror_is_left_in_apts_own_files(saved: Saved) -> None:
    names = {member.name for member in saved.members() if not member.isdir()}
    assert not {name for name in names if name.startswith(("var/lib/apt/lists/", "var/cache/apt"))}
    assert not {name for name in names if name.startswith("etc/apt/sources.list")}
    assert not {name for name in names if name.startswith(("run/secrets/", "build/", "cache/"))}


@pytest.mark.slow
def test_no_seal_of_any_box_is_in_the_environment_image(
    built: Built, ada_on_store: MainJob, saved: Saved
) -> None:
    for stack in (built.stack, ada_on_store.stack):
        seal = stack.exec("sh", "-c", "cat /etc/jupbox/seal/key.pem /etc/jupbox/seal/password.hash")
        key, hashed = seal.splitlines()[2], seal.splitlines()[-1]
        assert hashed.startswith("argon2:")
        assert not saved.holds(key.encode())
        assert not saved.holds(hashed.encode())
    assert not [member for member in saved.members() if member.name.startswith("etc/jupbox")]


# --- the definition that ships ----------------------------------------------------------------


@pytest.mark.slow
def test_the_scipy_image_imports_its_stack(ada: MainJob, tmp_path: Path) -> None:
    laptop = ada.laptop.at(tmp_path)
    (tmp_path / "jupbox.toml").write_text(
        '[boxes.science]\nhost = "workbox"\nimage = "scipy"\nport = "auto"\nfiles = "volume"\n'
    )
    stack = StackOnBox(box=ada.box, name="jupbox-ada_science")
    try:
        laptop.must("up")
        kernel = stack.start_kernel()
        stack.run_in_kernel(
            kernel,
            "import numpy, scipy, pandas, matplotlib.pyplot as plt, sklearn, ipywidgets\n"
            "plt.plot(numpy.arange(3)); plt.savefig('/tmp/plot.png')\n",
        )
    finally:
        stack.remove()
