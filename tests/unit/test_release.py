"""The stages of `up`, as far as they go without an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from jupbox import labels as label
from jupbox import pki, release
from jupbox.errors import CertificateError, FilesError, LockError, PortTakenError, ServerError
from jupbox.host import stack as stacks
from jupbox.host.engine import Engine
from jupbox.host.facts import HostFacts, parse
from jupbox.host.machine import LocalMachine
from jupbox.host.ssh import SshMachine
from jupbox.host.stack import State
from jupbox.lock import dump_lock
from jupbox.project import Box, Project, TlsFiles, parse_project, shipped_definitions
from jupbox.render import Account
from jupbox.site import Site, Surroundings
from tests.unit.fakes import FakeEngine, FakeMachine, container, image, sealed_image
from tests.unit.host.test_facts import answer
from tests.unit.test_render import LOCK

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FACTS = parse(answer(listening=""))
STACK = "jupbox-alice-workbox"
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


# --- progress ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("#8 [system 1/1] RUN --mount=x     sh /build/apt.sh /build/apt.txt", "Debian packages"),
        ("#9 [tools 1/1] RUN --mount=x     sh /build/tools.sh", "getting uv"),
        ("#10 [stage-2 1/2] RUN --mount=x     sh /build/python.sh", "Python packages"),
        ("#6 [2/3] RUN --mount=x     sh /build/user.sh alice 1 1 /build/groups.txt", "user"),
        ("#6 [stage-2  2/12] RUN sh /build/python.sh", "Python packages"),
        ("#8 2.345 Unpacking git (1:2.47) ...", None),
        ("#8 [system 1/1] COPY server /opt", None),
        ("#3 [internal] load build definition from Dockerfile", None),
        ("", None),
    ],
)
def test_a_line_of_the_build_says_what_is_done_now(line: str, expected: str | None) -> None:
    found = release.build_step(line)
    assert found is None if expected is None else expected in (found or "")


# --- the notebook's user ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "name"),
    [
        ("alice", "alice"),
        ("Alice.Smith", "alice-smith"),
        ("LAB\\alice", "lab-alice"),
        ("alice@lab.example", "alice-lab-example"),
        ("jürgen", "j-rgen"),
        ("7of9", "u1000"),
        ("日本", "u1000"),
        ("a b;rm -rf $HOME", "a-b-rm--rf--home"),
        ("svc_notebook", "svc_notebook"),
    ],
)
def test_an_odd_user_name_becomes_one_that_every_tool_takes(user: str, name: str) -> None:
    made = bench(facts=replace(FACTS, user=user))
    account = release.account_of(made.site, made.state)
    assert account.name == name
    assert (account.uid, account.gid) == (1000, 1000)


def test_the_users_groups_come_along_but_not_the_engines() -> None:
    facts = replace(
        FACTS, groups={1000: "alice", 998: "docker", 44: "video", 0: "root", 27: "sudo"}
    )
    made = bench(facts=facts)
    assert release.account_of(made.site, made.state).groups == (("sudo", 27), ("video", 44))


def test_root_becomes_an_ordinary_user() -> None:
    made = bench(facts=replace(FACTS, user="root", uid=0, gid=0, groups={0: "root"}))
    expected = Account(name="jupyter", uid=1000, gid=1000)
    assert release.account_of(made.site, made.state) == expected


def test_what_the_first_seal_fixed_stays_whoever_deploys() -> None:
    bob = Account(name="bob", uid=7, gid=8, groups=(("x", 9),))
    made = bench()
    made.engine.all_images.append(
        sealed_image(STACK, 1, **{label.ACCOUNT: stacks.account_text(bob)})
    )
    assert release.account_of(made.site, made.state) == bob


# --- names ------------------------------------------------------------------------------------

LOOPBACK = pki.Names.of([])


def names(**changes: Any) -> pki.Names:
    facts = replace(FACTS, addresses=("192.0.2.7", "2001:db8::7"))
    return release.box_names(with_box(bench(facts=facts), **changes))


def test_a_tunnelled_box_is_named_and_has_no_address_but_the_loopback() -> None:
    assert names() == pki.Names.of(["workbox", "workbox.example.org"])


def test_a_public_box_is_reached_by_its_addresses() -> None:
    assert set(names(expose="public").ips) == {*LOOPBACK.ips, "192.0.2.7", "2001:db8::7"}


def test_a_box_on_one_address_is_reached_by_that_one() -> None:
    assert set(names(expose="192.0.2.9").ips) == {*LOOPBACK.ips, "192.0.2.9"}


def test_names_that_were_asked_for_are_added() -> None:
    found = names(names=("lab.example.org", "198.51.100.1"))
    assert "lab.example.org" in found.dns
    assert "198.51.100.1" in found.ips


def test_what_a_machine_calls_itself_may_be_no_name_at_all() -> None:
    made = bench(facts=replace(FACTS, host="my_box!", fqdn="(none)"))
    assert release.box_names(made.site) == LOOPBACK


def test_the_name_that_ssh_resolves_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = SshMachine("w")
    machine._settings = {"hostname": "node7.example.org"}
    site = replace(bench().site, machine=machine)
    assert "node7.example.org" in release.box_names(site).dns


# --- what compose runs ------------------------------------------------------------------------


def test_a_stack_is_named_after_owner_and_box() -> None:
    made = bench()
    stack = release.stack_of(made.site, made.state)
    assert (stack.name, stack.hostname) == (STACK, "workbox")


@pytest.mark.parametrize(
    ("expose", "bind"),
    [
        ("tunnel", ("127.0.0.1",)),
        ("public", ("",)),
        ("192.0.2.7", ("127.0.0.1", "192.0.2.7")),
        ("2001:db8::7", ("127.0.0.1", "2001:db8::7")),
        ("127.0.0.1", ("127.0.0.1",)),
    ],
)
def test_where_the_port_is_bound(expose: str, bind: tuple[str, ...]) -> None:
    made = bench()
    assert release.stack_of(with_box(made, expose=expose), made.state).bind == bind


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ("~/notebooks", "/home/alice/notebooks"),
        ("~", "/home/alice"),
        ("/data/a b", "/data/a b"),
        ("volume", None),
    ],
)
def test_where_the_files_are(files: str, expected: str | None) -> None:
    made = bench()
    assert release.stack_of(with_box(made, files=files), made.state).files == expected


@pytest.mark.parametrize(
    ("memory", "of_host", "shared"),
    [("16g", 64 << 30, 8 << 30), (None, 64 << 30, 32 << 30), (None, 0, 64 << 20)],
)
def test_shared_memory_is_half_of_the_memory(memory: str | None, of_host: int, shared: int) -> None:
    made = bench(facts=replace(FACTS, memory=of_host))
    assert release.stack_of(with_box(made, memory=memory), made.state).shared_memory == shared


# --- ports ------------------------------------------------------------------------------------

AUTO = Box(name="workbox", host="workbox", port="auto")


def port(made: Bench) -> int:
    return release.stack_of(made.site, made.state).port


def test_a_port_that_is_written_down_is_that_port() -> None:
    assert port(bench(box=replace(AUTO, port=9000))) == 9000


def test_auto_is_8888_where_that_is_free() -> None:
    assert port(bench(box=AUTO)) == 8888


def test_auto_passes_by_what_listens_and_what_stopped_containers_want_back() -> None:
    made = bench(box=AUTO, facts=replace(FACTS, listening=frozenset({22, 8888, 8890})))
    made.engine.all_containers.append(
        container("theirs", state="exited", published=("0.0.0.0", 8889))
    )
    assert port(made) == 8891


def test_auto_stays_what_it_was_even_while_it_listens() -> None:
    made = bench(box=AUTO, facts=replace(FACTS, listening=frozenset({8888, 8895})))
    made.engine.all_containers.append(container("mine", MINE, published=("127.0.0.1", 8895)))
    assert port(made) == 8895


def test_our_own_running_port_is_not_taken() -> None:
    made = bench(facts=replace(FACTS, listening=frozenset({8888})))
    made.engine.all_containers.append(container("mine", MINE, published=("127.0.0.1", 8888)))
    release.check_port(made.site, made.state, 8888)


def test_a_free_port_is_fine() -> None:
    made = bench()
    release.check_port(made.site, made.state, 8888)


def test_a_port_of_another_container_is_taken_and_it_is_named() -> None:
    made = bench()
    made.engine.all_containers.append(container("theirs", published=("0.0.0.0", 8888)))
    with pytest.raises(PortTakenError, match="8888 on workbox is taken by container theirs"):
        release.check_port(made.site, made.state, 8888)


@pytest.mark.parametrize(
    ("said", "by"),
    [
        ('LISTEN 0 5 0.0.0.0:8888 0.0.0.0:* users:(("jupyter-lab",pid=77,fd=6))', "process jup"),
        ('LISTEN 0 5 0.0.0.0:8888 0.0.0.0:* users:(("jupyter-lab",pid=77,fd=6))', r"\(pid 77\)"),
        ("LISTEN 0 5 0.0.0.0:8888 0.0.0.0:*", "another"),
        ("", "another"),
    ],
)
def test_a_port_of_a_process_is_taken_and_it_is_named_if_we_may_see_it(said: str, by: str) -> None:
    facts = replace(FACTS, listening=frozenset({8888}))
    made = bench(facts=facts, machine=FakeMachine(answer=lambda argv: (0, said)))
    with pytest.raises(PortTakenError, match=by):
        release.check_port(made.site, made.state, 8888)


# --- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "what"), [(51, "be made"), (52, "be written"), (53, "somebody else")]
)
def test_a_folder_that_cannot_be_used_is_an_error(code: int, what: str) -> None:
    made = bench(machine=FakeMachine(answer=lambda argv: (code, "")))
    with pytest.raises(FilesError, match=what):
        release.ensure_files(made.site, release.stack_of(made.site, made.state))


def test_a_folder_is_an_argument_and_never_a_part_of_the_script() -> None:
    made = bench()
    site = with_box(made, files="/data/$(touch x); `y`")
    release.ensure_files(site, release.stack_of(site, made.state))
    ((argv, script),) = made.machine.calls
    assert argv == ["sh", "-s", "--", "/data/$(touch x); `y`", "1000", "1000"]
    assert b"/data" not in script


def test_a_volume_needs_no_folder() -> None:
    made = bench()
    site = with_box(made, files="volume")
    release.ensure_files(site, release.stack_of(site, made.state))
    assert made.machine.calls == []


# --- locks ------------------------------------------------------------------------------------


def test_no_lock_is_an_empty_one(tmp_path: Path) -> None:
    made = bench(root=tmp_path)
    assert release.read_lock(made.site).images == {}
    assert release.usable_lock(made.site, made.site.project.image("minimal")) is None


def test_a_written_lock_is_read_again_and_others_stay(tmp_path: Path) -> None:
    made = bench(root=tmp_path)
    release.write_lock(made.site, LOCK)
    release.write_lock(made.site, replace(LOCK, name="other"))
    found = release.read_lock(made.site)
    assert set(found.images) == {"datasci", "other"}
    assert found.images["datasci"].digest() == LOCK.digest()


def test_a_lock_for_another_architecture_is_not_usable(tmp_path: Path) -> None:
    made = bench(root=tmp_path, facts=replace(FACTS, architecture="arm64"))
    minimal = made.site.project.image("minimal")
    release.write_lock(made.site, replace(LOCK, name="minimal", definition=minimal.digest))
    assert release.usable_lock(made.site, minimal) is None
    usual = replace(made.site, facts=FACTS)
    assert release.usable_lock(usual, minimal) is not None


def test_a_teams_stale_lock_is_an_error_and_stays_as_it_is(tmp_path: Path) -> None:
    made = bench(root=tmp_path)
    release.write_lock(made.site, replace(LOCK, name="minimal"))
    before = (tmp_path / "jupbox.lock").read_bytes()
    with pytest.raises(LockError, match="does not match") as caught:
        release.usable_lock(made.site, made.site.project.image("minimal"))
    assert "jupbox lock minimal" in caught.value.remedy
    assert (tmp_path / "jupbox.lock").read_bytes() == before


def test_without_a_project_a_stale_lock_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench()
    monkeypatch.setattr(release, "lock_path", lambda project: tmp_path / "jupbox.lock")
    release.write_lock(made.site, replace(LOCK, name="minimal"))
    assert release.usable_lock(made.site, made.site.project.image("minimal")) is None


def test_a_laptop_without_a_lock_takes_the_running_stacks(tmp_path: Path) -> None:
    made = bench(root=tmp_path)
    minimal = made.site.project.image("minimal")
    lock = replace(LOCK, name="minimal", definition=minimal.digest)
    env = image("env", {label.KIND: "environment", label.LOCK: lock.digest()})
    made.engine.all_images.append(env)
    made.engine.all_containers.append(container("c", {**MINE, label.LOCK: lock.digest()}))
    text = dump_lock(release.Lock().with_image(lock)).encode()
    made.engine.in_images[env.id] = {"/opt/env/image.lock/image.lock": text}
    found = release.adopted_lock(made.site, made.state, minimal)
    assert found is not None
    assert found.digest() == lock.digest()
    assert release.read_lock(made.site).images["minimal"].digest() == lock.digest()


# --- one's own certificate --------------------------------------------------------------------


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


@pytest.fixture
def own(tmp_path: Path) -> Own:
    return Own(folder=tmp_path)


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(lambda pem: pem, id="as it is"),
        pytest.param(lambda pem: pem.replace(b"\n", b"\r\n"), id="line ends of Windows"),
        pytest.param(lambda pem: pem.rstrip(), id="no last line end"),
        pytest.param(lambda pem: b"subject=CN = own\n\n" + pem + b"\n# end\n", id="comments"),
    ],
)
def test_a_certificate_file_may_be_written_in_any_way(own: Own, written: Any) -> None:
    first, key = own_pair("lab.example.org")
    second, _ = own_pair("issuer")
    found = release.own_certificate(own.write(written(first + second), key))
    assert found is not None
    assert found[0] == first + second
    assert release._top(found[0]) == second
    assert found[1].reveal().encode() == key


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    tls = TlsFiles(cert=tmp_path / "no.pem", key=tmp_path / "no.key")
    with pytest.raises(CertificateError, match=r"no\.pem cannot be read: No such file"):
        release.own_certificate(with_box(bench(), tls=tls))


def test_a_pair_that_does_not_fit_is_refused(own: Own) -> None:
    (certificate, _), (_, key) = own_pair("a.example"), own_pair("b.example")
    with pytest.raises(CertificateError):
        release.own_certificate(own.write(certificate, key))


@pytest.mark.parametrize(
    ("names", "addresses", "expected"),
    [
        (("lab.example.org",), (), "lab.example.org"),
        (("*.example.org",), (), "jupbox.example.org"),
        ((), ("192.0.2.7",), "192.0.2.7"),
    ],
)
def test_the_server_is_asked_by_a_name_that_its_certificate_knows(
    own: Own, names: tuple[str, ...], addresses: tuple[str, ...], expected: str
) -> None:
    assert release._server_name(own.write(*own_pair(*names, addresses=addresses))) == expected


def test_our_own_certificates_know_localhost() -> None:
    assert release._server_name(bench().site) == "localhost"


# --- credentials ------------------------------------------------------------------------------


def test_the_first_release_makes_everything_and_says_the_password_once() -> None:
    made = bench()
    prepared = release.prepare(made.site, made.state, image="any", certify=True)
    assert prepared.password is not None
    assert not prepared.new_authority
    assert made.engine.all_volumes[f"{STACK}_authority"][label.KIND] == "volume"
    assert prepared.password.reveal() not in repr(prepared)


def sealed_bench() -> Bench:
    made = bench()
    prepared = release.prepare(made.site, made.state, image="any", certify=True)
    release.seal(
        made.site,
        made.state,
        prepared.credentials,
        account=Account(name="alice", uid=1, gid=2),
        lock="lock",
        image_name="minimal",
        body="body",
        recipe="recipe",
    )
    return made


def test_a_later_release_takes_everything_over() -> None:
    made = sealed_bench()
    last = stacks.read_credentials(cast(Engine, made.engine), made.state, image=None)
    prepared = release.prepare(made.site, made.state, image="any", certify=False)
    assert prepared.credentials == last
    assert prepared.password is None


def test_a_renewal_keeps_the_authority_and_the_password() -> None:
    made = sealed_bench()
    last = stacks.read_credentials(cast(Engine, made.engine), made.state, image=None)
    assert last is not None
    renewed = release.prepare(made.site, made.state, image="any", certify=True)
    assert renewed.credentials.authority_pem == last.authority_pem
    assert renewed.credentials.password_hash == last.password_hash
    assert renewed.credentials.leaf_pem != last.leaf_pem
    assert not renewed.new_authority


def test_another_name_takes_another_authority_and_says_so() -> None:
    made = sealed_bench()
    site = with_box(made, names=("new.example.org",))
    changed = release.prepare(site, made.state, image="any", certify=True)
    assert changed.new_authority
    assert changed.password is None


def test_the_users_own_certificate_is_sealed_with_its_key(own: Own) -> None:
    certificate, key = own_pair("lab.example.org")
    made = bench()
    site = replace(made.site, box=own.write(certificate, key).box)
    found = release.prepare(site, made.state, image="any", certify=True).credentials
    assert (found.leaf_pem, found.key_pem.reveal().encode()) == (certificate, key)
    assert f"{STACK}_authority" not in made.engine.all_volumes


def test_a_live_change_needs_a_sealed_image() -> None:
    made = sealed_bench()
    credentials = release.prepare(made.site, made.state, image="any", certify=False).credentials
    made.engine.all_images.clear()
    with pytest.raises(ServerError, match="gone"):
        release.seal_live(made.site, made.state, credentials)


def test_a_live_change_seals_the_next_generation_of_the_same_release() -> None:
    made = sealed_bench()
    credentials = release.prepare(made.site, made.state, image="any", certify=True).credentials
    release.seal_live(made.site, made.state, credentials)
    second, first = made.state.releases
    assert (first.generation, second.generation) == (1, 2)
    for key in (label.LOCK, label.IMAGE, label.RECIPE, label.ACCOUNT):
        assert first.image.labels[key] == second.image.labels[key]


# --- what is there ----------------------------------------------------------------------------


def test_what_is_there_is_said_in_the_plans_words() -> None:
    made = sealed_bench()
    values = {label.LOCK: "lock", label.CONFIGURATION: "values"}
    made.engine.all_containers.append(container("c", {**MINE, **values}, image="sha256:gone"))
    found = release.observed(made.site, made.state, environment=None)
    assert found.sealed is not None
    assert found.container is not None
    assert found.certificates is not None
    assert (found.sealed.environment, found.sealed.recipe) == ("lock", "recipe")
    assert (found.container.environment, found.container.configuration) == ("lock", "values")
    assert found.container.running
    assert not found.container.sealed_image_present
    assert not found.environment_image


def test_nothing_there_is_nothing() -> None:
    made = bench()
    found = release.observed(made.site, made.state, environment=None)
    assert (found.sealed, found.container, found.certificates) == (None, None, None)
