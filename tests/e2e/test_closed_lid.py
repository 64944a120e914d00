"""Cells run on with the browser and the tunnel gone, and nothing that they print is lost.

Each test leaves pictures of what it saw in its temporary folder.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.e2e.chromium import StartChromium, kill
from tests.e2e.opened import Opened, opening
from tests.integration.boxes.boxes import wait_until
from tests.integration.jupbox_command import Laptop, MainJob

pytestmark = [pytest.mark.slow, pytest.mark.browser]

NOTEBOOK = "lid.ipynb"
PATIENCE = 60_000  # milliseconds
#: Long enough to come back to; `test_no_line` has been run with minutes as well.
LINES = int(os.environ.get("JUPBOX_TEST_LINES", "100"))
PRINT = "import time\nfor n in range({lines}):\n    print('line', n)\n    time.sleep(0.25)"


@pytest.fixture
def laptop(ada: MainJob, trusting: Laptop) -> Iterator[Laptop]:
    """A laptop that trusts the box; the notebook and its kernels go with the test."""
    yield trusting
    for kernel in ada.stack.control("GET", "/api/kernels"):
        ada.stack.control("DELETE", f"/api/kernels/{kernel['id']}")
    ada.stack.control("DELETE", f"/api/contents/{NOTEBOOK}")


def enter(ada: MainJob, opened: Opened, context: BrowserContext) -> Page:
    """Log in, in a context's only tab, and open the notebook."""
    page = context.pages[0]
    path = ada.stack.control("login", "--next", f"/lab/tree/{NOTEBOOK}")["path"]
    page.goto(opened.url.removesuffix("/lab") + path)
    return page


def begin(ada: MainJob, opened: Opened, context: BrowserContext, *cells: str) -> Page:
    """Run the cells of a notebook, until the first has printed a few lines."""
    ada.stack.control("PUT", f"/api/contents/{NOTEBOOK}", "--body", json.dumps(notebook(*cells)))
    page = enter(ada, opened, context)
    # what is typed before the kernel is there can be lost
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=PATIENCE)
    page.locator(".jp-CodeCell .cm-content").first.click()
    for _ in cells:
        page.keyboard.press("Shift+Enter")
    expect(output(page, 0)).to_contain_text("line 3", timeout=PATIENCE)
    return page


def notebook(*cells: str) -> dict[str, Any]:
    """A notebook as the API takes it, of cells that have not run."""
    empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    whole = [{**empty, "id": f"cell-{at}", "source": code} for at, code in enumerate(cells)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)"}}
    content = {"cells": whole, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    return {"type": "notebook", "format": "json", "content": content}


def output(page: Page, cell: int) -> Any:
    """What stands below a cell."""
    return page.locator(".jp-CodeCell").nth(cell).locator(".jp-OutputArea")


def file(ada: MainJob) -> dict[str, Any]:
    """The notebook on the box."""
    for _ in range(100):
        try:
            value: dict[str, Any] = json.loads(
                ada.box.exec("cat", f"/home/ada/notebooks/{NOTEBOOK}")
            )
        except ValueError:  # just being written
            continue
        return value
    raise AssertionError("the notebook is no JSON")


def printed(notebook: dict[str, Any], cell: int) -> list[str]:
    """The lines below a cell of a file."""
    outputs = notebook["cells"][cell]["outputs"]
    return "".join("".join(each.get("text", "")) for each in outputs).splitlines()


def close_the_lid(profiles: Path, opened: Opened) -> None:
    """End the browsers with profiles in a folder, and the tunnel, as nobody should."""
    tunnel = opened.children()
    opened.process.kill()
    for pid in tunnel:
        os.kill(pid, signal.SIGKILL)
    kill(profiles)


def everything(lines: int) -> list[str]:
    return [f"line {n}" for n in range(lines)]


def save(page: Page) -> None:
    """Save as the user does; a question about another's change would stay."""
    page.keyboard.press("Control+s")
    expect(page.locator(".jp-mod-dirty")).to_have_count(0)
    expect(page.locator(".jp-Dialog")).to_have_count(0)


def test_no_line_is_lost_while_nobody_looks(
    ada: MainJob, laptop: Laptop, chromium: StartChromium, tmp_path: Path
) -> None:
    with opening(ada.laptop, "workbox", "--no-browser") as opened:
        page = begin(ada, opened, chromium(laptop), PRINT.format(lines=LINES), "1 / 0")
        page.screenshot(path=tmp_path / "before.png")
        close_the_lid(tmp_path, opened)
    ended = 2
    wait_until(
        lambda: file(ada)["cells"][1]["execution_count"] == ended,
        "the end of the run in the file",
        timeout=LINES / 4 + 60,
    )
    assert printed(file(ada), 0) == everything(LINES)
    with opening(ada.laptop, "workbox", "--no-browser") as opened:
        page = enter(ada, opened, chromium(laptop))
        expect(output(page, 0)).to_contain_text(f"line {LINES - 1}", timeout=PATIENCE)
        page.screenshot(path=tmp_path / "after.png")
        assert output(page, 0).inner_text().split("\n")[:LINES] == everything(LINES)
        expect(output(page, 1)).to_contain_text("ZeroDivisionError", timeout=PATIENCE)
        save(page)
    assert printed(file(ada), 0) == everything(LINES)


def test_who_comes_back_early_sees_the_rest_as_it_comes(
    ada: MainJob, laptop: Laptop, chromium: StartChromium, tmp_path: Path
) -> None:
    asks = "print('hello', input('who? '))\ntime.sleep(600)"
    with opening(ada.laptop, "workbox", "--no-browser") as opened:
        begin(ada, opened, chromium(laptop), PRINT.format(lines=LINES), asks)
        close_the_lid(tmp_path, opened)
    with opening(ada.laptop, "workbox", "--no-browser") as opened:
        page = enter(ada, opened, chromium(laptop))
        prompt = page.locator(".jp-CodeCell").nth(0).locator(".jp-InputPrompt")
        expect(prompt).to_contain_text("*", timeout=PATIENCE)
        expect(output(page, 0)).to_contain_text("line 5", timeout=PATIENCE)
        page.screenshot(path=tmp_path / "back.png")
        expect(prompt).to_contain_text("1", timeout=LINES * 250 + 30_000)
        assert output(page, 0).inner_text().split("\n")[:LINES] == everything(LINES)
        page.fill("input.jp-Stdin-input", "Ada")
        page.keyboard.press("Enter")
        expect(output(page, 1)).to_contain_text("hello Ada", timeout=PATIENCE)
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Interrupt the kernel").click()
        expect(output(page, 1)).to_contain_text("KeyboardInterrupt", timeout=PATIENCE)
        page.screenshot(path=tmp_path / "end.png")
        save(page)
    assert printed(file(ada), 0) == everything(LINES)


def test_a_page_that_was_only_cut_off_goes_on_and_saves(
    ada: MainJob, laptop: Laptop, chromium: StartChromium, tmp_path: Path
) -> None:
    with opening(ada.laptop, "workbox", "--no-browser") as opened:
        context = chromium(laptop)
        page = begin(ada, opened, context, PRINT.format(lines=60))
        ada.box.exec("pkill", "-KILL", "--uid", "ada", "--exact", "sshd-session")
        # JupyterLab's own, if it noticed in time that there was no connection
        page.add_locator_handler(
            page.get_by_text("Server Connection Error"),
            lambda: page.keyboard.press("Escape"),
        )
        context.set_offline(True)
        wait_until(lambda: printed(file(ada), 0) == everything(60), "all lines", timeout=60)
        context.set_offline(False)
        opened.wait_for("Connected again")
        expect(output(page, 0)).to_contain_text("line 59", timeout=PATIENCE)
        assert output(page, 0).inner_text().split("\n")[:60] == everything(60)
        page.screenshot(path=tmp_path / "again.png")
        save(page)
    assert printed(file(ada), 0) == everything(60)
