"""Names, certificates, password: what a seal holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from jupbox import labels as label
from jupbox import pki
from jupbox.console import Console
from jupbox.errors import CertificateError, EngineError, ServerError
from jupbox.host import stack as stacks
from jupbox.host.engine import Engine
from jupbox.host.ssh import SshMachine
from jupbox.host.stack import Credentials
from jupbox.project import TlsFiles
from jupbox.release import sealing
from jupbox.site import Site
from jupbox.workflows.renewal import renew_if_due
from tests.unit.release.bench import (
    FACTS,
    NOW,
    STACK,
    Bench,
    Own,
    bench,
    own_pair,
    sealed_bench,
    with_box,
)

# --- names --------------------------------------------------------------------------------------


LOOPBACK = pki.Names.of([])


def names(**changes: Any) -> pki.Names:
    facts = replace(FACTS, addresses=("192.0.2.7", "2001:db8::7"))
    return sealing.box_names(with_box(bench(facts=facts), **changes))


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
    assert sealing.box_names(made.site) == LOOPBACK


def test_the_name_that_ssh_resolves_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = SshMachine("w")
    machine._settings = {"hostname": "node7.example.org"}
    site = replace(bench().site, machine=machine)
    public = replace(site, box=replace(site.box, expose="public"))
    assert "node7.example.org" in sealing.box_names(public).dns
    # through a tunnel nobody comes by it, and each laptop may call the host differently
    assert "node7.example.org" not in sealing.box_names(site).dns


# --- one's own certificate ----------------------------------------------------------------------


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
    found = sealing.own_certificate(own.write(written(first + second), key))
    assert found is not None
    assert found[0] == first + second
    assert sealing._top(found[0]) == second
    assert found[1].reveal().encode() == key


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    tls = TlsFiles(cert=tmp_path / "no.pem", key=tmp_path / "no.key")
    with pytest.raises(CertificateError, match=r"no\.pem cannot be read: No such file"):
        sealing.own_certificate(with_box(bench(), tls=tls))


def test_a_pair_that_does_not_fit_is_refused(own: Own) -> None:
    (certificate, _), (_, key) = own_pair("a.example"), own_pair("b.example")
    with pytest.raises(CertificateError):
        sealing.own_certificate(own.write(certificate, key))


# --- credentials --------------------------------------------------------------------------------


def test_the_first_release_makes_everything_and_says_the_password_once() -> None:
    made = bench()
    prepared = sealing.prepare(made.site, made.state, image="any", certify=True)
    assert prepared.password is not None
    assert not prepared.new_authority
    assert made.engine.all_volumes[f"{STACK}_authority"][label.KIND] == "volume"
    assert prepared.password.reveal() not in repr(prepared)


def test_a_later_release_takes_everything_over() -> None:
    made = sealed_bench()
    last = stacks.read_credentials(cast(Engine, made.engine), made.state, image=None)
    prepared = sealing.prepare(made.site, made.state, image="any", certify=False)
    assert prepared.credentials == last
    assert prepared.password is None


def test_a_renewal_keeps_the_authority_and_the_password() -> None:
    made = sealed_bench()
    last = stacks.read_credentials(cast(Engine, made.engine), made.state, image=None)
    assert last is not None
    renewed = sealing.prepare(made.site, made.state, image="any", certify=True)
    assert renewed.credentials.authority_pem == last.authority_pem
    assert renewed.credentials.password_hash == last.password_hash
    assert renewed.credentials.leaf_pem != last.leaf_pem
    assert not renewed.new_authority


def test_another_name_takes_another_authority_and_says_so() -> None:
    made = sealed_bench()
    site = with_box(made, names=("new.example.org",))
    changed = sealing.prepare(site, made.state, image="any", certify=True)
    assert changed.new_authority
    assert changed.password is None


def test_the_users_own_certificate_is_sealed_with_its_key(own: Own) -> None:
    certificate, key = own_pair("lab.example.org")
    made = bench()
    site = replace(made.site, box=own.write(certificate, key).box)
    found = sealing.prepare(site, made.state, image="any", certify=True).credentials
    assert (found.leaf_pem, found.key_pem.reveal().encode()) == (certificate, key)
    assert f"{STACK}_authority" not in made.engine.all_volumes


def test_a_live_change_needs_a_sealed_image() -> None:
    made = sealed_bench()
    credentials = sealing.prepare(made.site, made.state, image="any", certify=False).credentials
    made.engine.all_images.clear()
    with pytest.raises(ServerError, match="gone"):
        sealing.seal_live(made.site, made.state, credentials)


def test_a_live_change_seals_the_next_generation_of_the_same_release() -> None:
    made = sealed_bench()
    credentials = sealing.prepare(made.site, made.state, image="any", certify=True).credentials
    sealing.seal_live(made.site, made.state, credentials)
    second, first = made.state.releases
    assert (first.generation, second.generation) == (1, 2)
    for key in (label.LOCK, label.IMAGE, label.RECIPE, label.ACCOUNT):
        assert first.image.labels[key] == second.image.labels[key]


def test_a_seal_that_no_container_ever_used_is_made_anew() -> None:
    made = sealed_bench(deployed=False)
    last = credentials_of(made)
    prepared = sealing.prepare(made.site, made.state, image="any", certify=False)
    assert prepared.password is not None
    assert prepared.credentials.password_hash != last.password_hash
    assert prepared.credentials.leaf_pem != last.leaf_pem
    assert prepared.credentials.authority_pem == last.authority_pem


# --- live changes that were cut off -------------------------------------------------------------

VOLUME = f"{STACK}_seal-1"


def credentials_of(made: Bench) -> Credentials:
    found = stacks.read_credentials(cast(Engine, made.engine), made.state, image=None)
    assert found is not None
    return found


def cut_off(made: Bench, monkeypatch: pytest.MonkeyPatch) -> Credentials:
    """Renew the certificate, and be interrupted before the volume in use is written."""

    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    new = sealing.prepare(made.site, made.state, image="any", certify=True).credentials
    with monkeypatch.context() as patch:
        patch.setattr(sealing, "_write_live", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sealing.seal_live(made.site, made.state, new)
    return new


def test_a_live_change_that_was_cut_off_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    made = sealed_bench()
    new = cut_off(made, monkeypatch)
    served = made.engine.in_volumes[VOLUME]
    assert new.leaf_pem not in served["cert.pem"]
    state = sealing.settle(made.site, made.state)
    assert new.leaf_pem in served["cert.pem"]
    assert served["key.pem"].decode() == new.key_pem.reveal()
    assert b'"generation": 2' in served["seal.json"]
    assert state.newest is not None
    assert f"{STACK}:applied-2" in state.newest.image.tags


def test_what_is_finished_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = sealed_bench()
    cut_off(made, monkeypatch)
    sealing.settle(made.site, made.state)
    written = len(made.engine.tars)
    sealing.settle(made.site, made.state)
    assert len(made.engine.tars) == written


@pytest.mark.parametrize("deployed", [True, False])
def test_without_a_live_change_there_is_nothing_to_finish(deployed: bool) -> None:
    made = sealed_bench(deployed=deployed)
    written, state = len(made.engine.tars), made.state
    assert sealing.settle(made.site, state) == state
    assert len(made.engine.tars) == written


def test_a_live_change_is_marked_as_finished() -> None:
    made = sealed_bench()
    new = sealing.prepare(made.site, made.state, image="any", certify=True).credentials
    sealing.seal_live(made.site, made.state, new)
    written = len(made.engine.tars)
    sealing.settle(made.site, made.state)
    assert len(made.engine.tars) == written
    assert new.leaf_pem in made.engine.in_volumes[VOLUME]["cert.pem"]


# --- renewal ------------------------------------------------------------------------------------


def later(made: Bench, days: int) -> Site:
    around = replace(made.site.around, now=lambda: NOW + timedelta(days=days))
    return replace(made.site, around=around)


def test_a_certificate_with_enough_of_its_life_left_stays() -> None:
    made = sealed_bench()
    state = made.state
    assert renew_if_due(later(made, 200), state, Console()) == state


def test_a_due_certificate_is_renewed_where_the_server_reads_it() -> None:
    made = sealed_bench()
    old = credentials_of(made)
    renew_if_due(later(made, 300), made.state, Console())
    new = credentials_of(made)
    assert new.leaf_pem != old.leaf_pem
    assert (new.authority_pem, new.password_hash) == (old.authority_pem, old.password_hash)
    assert new.leaf_pem in made.engine.in_volumes[VOLUME]["cert.pem"]
    assert made.machine.held == []


def lose_the_authority(made: Bench) -> None:
    del made.engine.all_volumes[f"{STACK}_authority"]


def be_busy(made: Bench) -> None:
    made.machine.held.append(STACK)


def lose_the_engine(made: Bench) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise EngineError("it is full", remedy="none")

    made.engine.commit = refuse  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (lose_the_authority, "CA is gone"),
        (be_busy, "Another jupbox is changing"),
        (lose_the_engine, "it is full"),
    ],
)
def test_a_renewal_that_fails_stops_nobody_who_only_looks(
    happens: Callable[[Bench], None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = sealed_bench()
    happens(made)
    state = made.state
    assert renew_if_due(later(made, 300), state, Console()) == state
    shown = capsys.readouterr().err
    assert "was not renewed" in shown
    assert said in shown
