"""From a sealed image to a stack that answers."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jupbox import labels as label
from jupbox.errors import FilesError, PortTakenError, ServerError
from jupbox.host import stack as stacks
from jupbox.host.machine import LocalMachine
from jupbox.plan import Certificates
from jupbox.project import Box
from jupbox.release import deploying, sealing
from jupbox.render import Account
from tests.unit.fakes import FakeMachine, container, sealed_image
from tests.unit.release.bench import (
    FACTS,
    MINE,
    STACK,
    Bench,
    bench,
    own_pair,
    sealed_bench,
    with_box,
)

# --- the notebook's user ------------------------------------------------------------------------


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
    account = deploying.account_of(made.site, made.state)
    assert account.name == name
    assert (account.uid, account.gid) == (1000, 1000)


def test_the_users_groups_come_along_but_not_the_engines() -> None:
    facts = replace(
        FACTS, groups={1000: "alice", 998: "docker", 44: "video", 0: "root", 27: "sudo"}
    )
    made = bench(facts=facts)
    assert deploying.account_of(made.site, made.state).groups == (("sudo", 27), ("video", 44))


def test_root_becomes_an_ordinary_user() -> None:
    made = bench(facts=replace(FACTS, user="root", uid=0, gid=0, groups={0: "root"}))
    expected = Account(name="jupyter", uid=1000, gid=1000)
    assert deploying.account_of(made.site, made.state) == expected


def test_what_the_first_seal_fixed_stays_whoever_deploys() -> None:
    bob = Account(name="bob", uid=7, gid=8, groups=(("x", 9),))
    made = bench()
    made.engine.all_images.append(
        sealed_image(STACK, 1, **{label.ACCOUNT: stacks.account_text(bob)})
    )
    assert deploying.account_of(made.site, made.state) == bob


# --- what compose runs --------------------------------------------------------------------------


def test_a_stack_is_named_after_owner_and_box() -> None:
    made = bench()
    stack = deploying.stack_of(made.site, made.state)
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
    assert deploying.stack_of(with_box(made, expose=expose), made.state).bind == bind


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
    assert deploying.stack_of(with_box(made, files=files), made.state).files == expected


@pytest.mark.parametrize(
    ("memory", "of_host", "shared"),
    [("16g", 64 << 30, 8 << 30), (None, 64 << 30, 32 << 30), (None, 0, 64 << 20)],
)
def test_shared_memory_is_half_of_the_memory(memory: str | None, of_host: int, shared: int) -> None:
    made = bench(facts=replace(FACTS, memory=of_host))
    assert deploying.stack_of(with_box(made, memory=memory), made.state).shared_memory == shared


def test_what_cells_print_is_kept_unless_the_box_says_no() -> None:
    made = bench()
    kept = deploying.stack_of(with_box(made), made.state)
    not_kept = deploying.stack_of(with_box(made, keep_output=False), made.state)
    assert (kept.forgets_output, not_kept.forgets_output) == (False, True)
    # so that it takes a new container
    assert kept.digest() != not_kept.digest()


# --- ports --------------------------------------------------------------------------------------


AUTO = Box(name="workbox", host="workbox", port="auto")


def port(made: Bench) -> int:
    return deploying.stack_of(made.site, made.state).port


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


def check_port(made: Bench) -> None:
    deploying.check_ports(made.site, made.state, deploying.stack_of(made.site, made.state))


def test_our_own_running_port_is_not_taken() -> None:
    made = bench(facts=replace(FACTS, listening=frozenset({8888})))
    made.engine.all_containers.append(container("mine", MINE, published=("127.0.0.1", 8888)))
    check_port(made)


def test_a_free_port_is_fine() -> None:
    made = bench()
    check_port(made)


def test_a_port_of_another_container_is_taken_and_it_is_named() -> None:
    made = bench()
    made.engine.all_containers.append(container("theirs", published=("0.0.0.0", 8888)))
    with pytest.raises(PortTakenError, match="8888 on workbox is taken by container theirs"):
        check_port(made)


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
        check_port(made)


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "what"), [(51, "be made"), (52, "be written"), (53, "somebody else")]
)
def test_a_folder_that_cannot_be_used_is_an_error(code: int, what: str) -> None:
    made = bench(machine=FakeMachine(answer=lambda argv: (code, "")))
    with pytest.raises(FilesError, match=what):
        deploying.ensure_files(made.site, deploying.stack_of(made.site, made.state))


def test_a_folder_is_an_argument_and_never_a_part_of_the_script() -> None:
    made = bench()
    site = with_box(made, files="/data/$(touch x); `y`")
    deploying.ensure_files(site, deploying.stack_of(site, made.state))
    ((argv, script),) = made.machine.calls
    assert argv == ["sh", "-s", "--", "/data/$(touch x); `y`", "1000", "1000"]
    assert b"/data" not in script


def test_a_volume_needs_no_folder() -> None:
    made = bench()
    site = with_box(made, files="volume")
    deploying.ensure_files(site, deploying.stack_of(site, made.state))
    assert made.machine.calls == []


# --- the answer ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "addresses", "expected"),
    [
        (("lab.example.org",), (), "lab.example.org"),
        (("*.example.org",), (), "jupbox.example.org"),
        ((), ("192.0.2.7",), "192.0.2.7"),
    ],
)
def test_the_server_is_asked_by_a_name_that_its_certificate_knows(
    names: tuple[str, ...], addresses: tuple[str, ...], expected: str
) -> None:
    assert deploying._server_name(own_pair(*names, addresses=addresses)[0]) == expected


def test_our_own_certificates_know_localhost() -> None:
    prepared = sealing.prepare(bench().site, bench().state, image="any", certify=True)
    assert deploying._server_name(prepared.credentials.leaf_pem) == "localhost"


# --- what is there ------------------------------------------------------------------------------


def test_what_is_there_is_said_in_the_plans_words() -> None:
    made = sealed_bench(deployed=False)
    values = {label.LOCK: "lock", label.CONFIGURATION: "values"}
    made.engine.all_containers.append(container("c", {**MINE, **values}, image="sha256:gone"))
    found = deploying.observed(made.site, made.state, environment=None)
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
    found = deploying.observed(made.site, made.state, environment=None)
    assert (found.sealed, found.container, found.certificates) == (None, None, None)


# --- the folder on the host, for real -----------------------------------------------------------

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
ROOT = replace(FACTS, user="root", uid=0, gid=0, groups={})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home directory of root, who deploys on this machine."""
    path = tmp_path / "root"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    return path


def make_files(home: Path, files: str) -> Path:
    """Have the folder made as `up` does; where it is."""
    made = bench(facts=replace(ROOT, home=str(home)))
    site = replace(with_box(made, files=files), machine=LocalMachine())
    stack = deploying.stack_of(site, made.state)
    assert stack.files is not None
    deploying.ensure_files(site, stack)
    return Path(stack.files)


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


@AS_ROOT
@pytest.mark.real_process
def test_what_root_has_in_its_own_home_becomes_the_notebook_users(home: Path) -> None:
    folder = home / "notebooks"
    folder.mkdir()
    (folder / "mine.ipynb").touch()
    (folder / "carols.ipynb").touch()
    os.chown(folder / "carols.ipynb", 77, 78)
    assert make_files(home, "~/notebooks") == folder
    assert owner(folder) == owner(folder / "mine.ipynb") == (1000, 1000)
    assert owner(folder / "carols.ipynb") == (77, 78)


@AS_ROOT
@pytest.mark.real_process
@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_foreign_folder_is_never_given_away(home: Path, tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "srv"
    folder.mkdir()
    folder.chmod(mode)
    if mode == 0o777:
        make_files(home, str(folder))
    else:
        with pytest.raises(FilesError, match=r"somebody else than the notebook's user \(uid 1000"):
            make_files(home, str(folder))
    assert owner(folder) == (0, 0)


@AS_ROOT
@pytest.mark.real_process
def test_a_folder_that_was_just_made_is_the_notebook_users(home: Path, tmp_path: Path) -> None:
    folder = make_files(home, str(tmp_path / "srv" / "new"))
    assert owner(folder) == (1000, 1000)
    assert owner(folder.parent) == (0, 0)


@AS_ROOT
@pytest.mark.real_process
@pytest.mark.parametrize("files", ["~/../srv", "{home}/../srv", "{home}/x/../../srv"])
def test_a_way_out_of_home_is_no_folder_of_home(home: Path, tmp_path: Path, files: str) -> None:
    folder = tmp_path / "srv"
    folder.mkdir()
    with pytest.raises(FilesError, match="somebody else"):
        make_files(home, files.format(home=home))
    assert owner(folder) == (0, 0)


@AS_ROOT
@pytest.mark.real_process
@pytest.mark.parametrize("files", ["~/link", "~/link/deeper"])
def test_a_link_out_of_home_gives_nothing_away(home: Path, tmp_path: Path, files: str) -> None:
    folder = tmp_path / "srv"
    (folder / "deeper").mkdir(parents=True)
    (home / "link").symlink_to(folder)
    with pytest.raises(FilesError, match="somebody else"):
        make_files(home, files)
    assert owner(folder) == owner(folder / "deeper") == (0, 0)


@AS_ROOT
@pytest.mark.real_process
def test_without_a_home_every_folder_is_foreign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    folder = tmp_path / "srv"
    folder.mkdir()
    with pytest.raises(FilesError, match="somebody else"):
        make_files(Path("/root"), str(folder))
    assert owner(folder) == (0, 0)


# --- waiting ------------------------------------------------------------------------------------


PUBLIC = Certificates(leaf_pem=own_pair("localhost")[0], authority_pem=b"")


def wait(
    monkeypatch: pytest.MonkeyPatch, restarts: tuple[int, ...], *, state: str = "running"
) -> None:
    """Wait for a server that was restarted so often, each time that one looks."""
    made = bench()

    def wait_https(*, alive: Callable[[], None], **_options: object) -> None:
        for count in restarts:
            mine = container("mine", MINE, restarts=count, state=state)
            made.engine.all_containers[:] = [mine]
            alive()

    monkeypatch.setattr(deploying, "wait_https", wait_https)
    deploying.wait(made.site, 8888, PUBLIC)


@pytest.mark.parametrize("restarts", [(0, 0, 0), (7, 7, 7), (7, 8, 8)])
def test_restarts_of_the_past_say_nothing(
    monkeypatch: pytest.MonkeyPatch, restarts: tuple[int, ...]
) -> None:
    wait(monkeypatch, restarts)


@pytest.mark.parametrize("restarts", [(0, 1, 2), (7, 9)])
def test_a_server_that_ends_again_and_again_is_an_error_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, restarts: tuple[int, ...]
) -> None:
    with pytest.raises(ServerError, match="right after its start") as caught:
        wait(monkeypatch, restarts)
    assert caught.value.details == ("one", "two")


def test_a_server_that_ended_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServerError):
        wait(monkeypatch, (0,), state="exited")
