"""Password and certificate change while the server runs, and no kernel ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect

from jupbox import pki
from jupbox.host import stack as stacks
from jupbox.release.sealing import seal_live
from jupbox.site import Surroundings, connect, load_project
from tests.e2e.chromium import StartChromium, kernels, lab, log_in, status
from tests.e2e.opened import Opened
from tests.integration.boxes.boxes import wait_until
from tests.integration.jupbox_command import Laptop, MainJob, StackOnBox, Visitor, visiting

pytestmark = pytest.mark.slow

OTHER_PASSWORD = "another battery staple"


# --- password ---------------------------------------------------------------------------------


@pytest.fixture
def kernel(ada: MainJob) -> Iterator[str]:
    """A kernel that knows something."""
    kernel = ada.stack.start_kernel()
    ada.stack.run_in_kernel(kernel, "answer = 6 * 7")
    yield kernel
    ada.stack.end_kernel(kernel)


@pytest.fixture
def password(ada: MainJob) -> Iterator[str]:
    """The box's password, in force again after the test."""
    password = ada.first.password or ""
    yield password
    ada.jupbox("password", "--stdin", input=f"{password}\n")


@pytest.mark.browser
def test_a_new_password_ends_old_logins_and_no_kernel(
    ada: MainJob, opened: Opened, trusting: Laptop, chromium: StartChromium, kernel: str,
    password: str, tmp_path: Path,
) -> None:  # fmt: skip
    identity = ada.stack.identity()
    page = chromium(trusting).pages[0]
    page.goto(opened.url)
    log_in(page, password)
    lab(page).wait_for()

    done = ada.jupbox("password", "--stdin", input=f"{OTHER_PASSWORD}\n")
    assert OTHER_PASSWORD not in done.stdout + done.stderr

    assert status(page, "/api/kernels") == 403
    page.goto(opened.url)
    expect(page.locator("input[name=password]")).to_be_visible()
    log_in(page, password)
    expect(page.locator(".message.error")).to_contain_text("Invalid credentials")
    page.screenshot(path=tmp_path / "old-password.png")
    log_in(page, OTHER_PASSWORD)
    lab(page).wait_for()
    assert kernels(page) == [kernel]

    ada.stack.run_in_kernel(kernel, "assert answer == 42")
    assert ada.stack.identity() == identity


# --- certificate ------------------------------------------------------------------------------


def age_certificate(laptop: Laptop, box: str) -> str:
    """Give a running server a leaf made 300 days ago; its fingerprint."""
    around = Surroundings(cwd=laptop.folder, home=Path(laptop.environ["HOME"]))
    project = load_project(around)
    site = connect(project, project.box(box), around)
    state = stacks.observe(site.engine, site.stack)
    assert state.newest is not None
    image = state.newest.image.id
    authority = stacks.read_authority(site.engine, state, image=image)
    last = stacks.read_credentials(site.engine, state, image=image)
    assert authority is not None
    assert last is not None
    names = pki.leaf_names(last.leaf_pem)
    made = around.now() - timedelta(days=300)
    old = pki.issue_leaf(authority=authority, names=names, now=made)
    seal_live(site, state, replace(last, leaf_pem=old.certificate_pem, key_pem=old.key_pem))
    return pki.fingerprint(old.certificate_pem)


def test_any_verb_renews_a_certificate_that_is_nearly_over_with_no_restart(
    ada: MainJob, opened: Opened, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ada.laptop.environ.items():
        monkeypatch.setenv(name, value)
    identity = ada.stack.identity()
    visitor = Visitor(address="127.0.0.1", port=opened.port, ca_pem=ada.ca_pem)
    old = age_certificate(ada.laptop, "workbox")
    wait_until(lambda: visitor.fingerprint() == old, "the old certificate", timeout=20)

    done = ada.jupbox("status", "--json")

    assert "Renewing the certificate" in done.stderr
    wait_until(lambda: visitor.fingerprint() != old, "the new certificate", timeout=20)
    # by the authority that browsers know; and no verb finds anything to renew now
    assert visitor.fingerprint() == ada.status()["certificate"]["fingerprint"]
    assert "Renewing" not in ada.jupbox("status").stderr
    leaf = visitor.certificate()
    assert leaf.not_valid_after_utc - Surroundings().now() > timedelta(days=360)
    assert visitor.log_in(ada.first.password or "")
    ada.stack.run_in_kernel(kernel, "assert answer == 42")
    assert ada.stack.identity() == identity


PROJECT = '[boxes.named]\nhost = "workbox"\nport = "auto"\nfiles = "volume"\n'


@pytest.fixture
def named(ada: MainJob, tmp_path: Path) -> Iterator[tuple[Laptop, StackOnBox]]:
    """A project with a box of its own on the same host, up; all of it goes at the end."""
    project = ada.laptop.at(tmp_path)
    (tmp_path / "jupbox.toml").write_text(PROJECT)
    (tmp_path / "jupbox.lock").write_bytes(ada.lock.read_bytes())
    project.must("up")
    stack = StackOnBox(box=ada.box, name=project.must("status", "--json").json["stack"])
    yield project, stack
    stack.remove()


def test_new_names_mean_a_new_authority_and_no_restart(
    named: tuple[Laptop, StackOnBox], tmp_path: Path
) -> None:
    project, stack = named
    identity = stack.identity()
    old_ca = project.must("trust", "--print").stdout

    (tmp_path / "jupbox.toml").write_text(PROJECT + 'names = ["named.example.org"]\n')
    up = project.must("up")

    assert "run `jupbox trust named` again" in up.stderr
    assert up.password is None
    new_ca = project.must("trust", "--print").stdout
    assert new_ca != old_ca
    port = project.must("status", "--json").json["port"]
    with visiting(project, "workbox", port, new_ca) as visitor:
        visitor.server_name = "named.example.org"
        assert visitor.request("GET", "/api") == 200
    assert stack.identity() == identity
