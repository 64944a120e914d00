"""The whole way in a real browser: trust, login, a notebook, a terminal.

Each test leaves a picture of what it saw in its temporary folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Error, Page, expect

from tests.e2e.chromium import StartChromium, lab, launch, log_in, status
from tests.e2e.opened import Opened, opening
from tests.integration.boxes.boxes import wait_until
from tests.integration.jupbox_command import Laptop, MainJob

pytestmark = [pytest.mark.slow, pytest.mark.browser]

NOTEBOOKS = "/home/ada/notebooks"


@pytest.fixture
def page(ada: MainJob, opened: Opened, trusting: Laptop, chromium: StartChromium) -> Iterator[Page]:
    """A tab that is logged in; the kernels and terminals that it starts end with it."""
    page = chromium(trusting).pages[0]
    path = ada.stack.control("login")["path"]
    page.goto(opened.url.removesuffix("/lab") + path)
    yield page
    page.close()
    for kind, key in (("kernels", "id"), ("terminals", "name")):
        for running in ada.stack.control("GET", f"/api/{kind}"):
            ada.stack.control("DELETE", f"/api/{kind}/{running[key]}")


def picture(page: Page, folder: Path, name: str) -> None:
    page.screenshot(path=folder / f"{name}.png")


def test_without_trust_the_browser_refuses(
    opened: Opened, stranger: Laptop, chromium: StartChromium, tmp_path: Path
) -> None:
    page = chromium(stranger).pages[0]
    with pytest.raises(Error, match="net::ERR_CERT_AUTHORITY_INVALID"):
        page.goto(opened.url)
    picture(page, tmp_path, "refused")


def test_with_trust_there_is_no_warning_and_the_right_password_alone_opens(
    ada: MainJob, opened: Opened, trusting: Laptop, chromium: StartChromium, tmp_path: Path
) -> None:
    page = chromium(trusting).pages[0]
    page.goto(opened.url)
    expect(page.locator("input[name=password]")).to_be_visible()
    assert "/login" in page.url
    picture(page, tmp_path, "login")

    log_in(page, "not the password")
    expect(page.locator(".message.error")).to_contain_text("Invalid credentials")
    assert status(page, "/api/kernels") == 403
    picture(page, tmp_path, "wrong-password")

    log_in(page, ada.first.password or "")
    lab(page).wait_for()
    assert "/lab" in page.url
    picture(page, tmp_path, "right-password")


def test_the_link_of_open_lands_logged_in_and_works_once(
    ada: MainJob, trusting: Laptop, chromium: StartChromium, tmp_path: Path
) -> None:
    with opening(ada.laptop, "workbox", "--url") as opened:
        page = chromium(trusting).pages[0]
        page.goto(opened.link)
        lab(page).wait_for()
        assert page.url.split("?")[0] == opened.url

        again = chromium(trusting).pages[0]
        answer = again.goto(opened.link)
        assert answer is not None
        assert answer.status == 403
        expect(again.locator("body")).to_contain_text("This link does not work any more")
        expect(again.locator("body")).to_contain_text("`jupbox open`")
        picture(again, tmp_path, "used-link")


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    """A browser that only writes down what it was started with."""
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/started-with\n')
    script.chmod(0o755)
    return script


def test_open_starts_the_browser_at_a_local_page_that_logs_in(
    ada: MainJob, trusting: Laptop, chromium: StartChromium, stub: Path
) -> None:
    with opening(ada.laptop, "workbox", BROWSER=str(stub)) as opened:
        (address,) = stub.with_name("started-with").read_text().splitlines()
        # whoever lists processes sees this
        assert address.startswith("file:///")
        assert "code" not in address
        file = Path(address.removeprefix("file://"))
        assert file.stat().st_mode & 0o777 == 0o600

        page = chromium(trusting).pages[0]
        page.goto(address)
        page.wait_for_url(re.compile(re.escape(opened.url)))
        lab(page).wait_for()
    assert not file.exists()


def test_a_notebook_of_the_browser_is_the_users_file_on_the_host(
    ada: MainJob, opened: Opened, page: Page, tmp_path: Path
) -> None:
    name = f"browser-{uuid4().hex}"
    launch(page, opened.url, workspace=name, card="Python 3")
    # what is typed before the kernel is there can be lost
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=60_000)
    page.click(".jp-CodeCell .cm-content")
    page.keyboard.type("print(6*7)")
    expect(page.locator(".jp-CodeCell .cm-content").first).to_have_text("print(6*7)")
    page.keyboard.press("Shift+Enter")
    expect(page.locator(".jp-OutputArea-output").first).to_have_text("42", timeout=60_000)
    page.keyboard.press("Control+s")
    page.fill(".jp-Dialog input.jp-mod-styled[type=text], .jp-Dialog input", f"{name}.ipynb")
    page.click(".jp-Dialog button.jp-mod-accept")

    path = f"{NOTEBOOKS}/{name}.ipynb"
    wait_until(lambda: ada.box.succeeds("grep", "--quiet", "6\\*7", path), "the saved notebook")
    picture(page, tmp_path, "notebook")
    cells = json.loads(ada.box.exec("cat", path))["cells"]
    assert cells[0]["source"] == ["print(6*7)"]
    assert cells[0]["outputs"][0]["text"] == ["42\n"]
    assert ada.box.exec("stat", "--format", "%U:%G", path).strip() == "ada:ada"


def test_a_terminal_is_the_users_own_in_a_closed_container(
    ada: MainJob, opened: Opened, page: Page, tmp_path: Path
) -> None:
    name = f"terminal-{uuid4().hex}"
    launch(page, opened.url, workspace=name, card="Terminal")
    page.locator(".jp-Terminal .xterm-helper-textarea").focus()
    looks = f"id; touch /here; touch ~/{name} && rm ~/{name} && echo mine"
    page.keyboard.type(f"({looks}) 2>&1 | tee ~/notebooks/{name}.part; cd; mv notebooks/{name}.*")
    page.keyboard.type(f" notebooks/{name}\n")

    path = f"{NOTEBOOKS}/{name}"
    wait_until(lambda: ada.box.succeeds("test", "-e", path), "the terminal's answers")
    picture(page, tmp_path, "terminal")
    assert ada.box.exec("cat", path).splitlines() == [
        "uid=1500(ada) gid=1500(ada) groups=1500(ada),3000(lab)",
        "touch: cannot touch '/here': Read-only file system",
        "mine",
    ]
