"""The distribution's Chromium, and JupyterLab as a user handles it there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

from playwright.sync_api import BrowserContext, Locator, Page, Playwright

from tests.integration.jupbox_command import Laptop

StartChromium = Callable[[Laptop], BrowserContext]

CHROMIUM = "/usr/bin/chromium"
# Playwright adds --headless, and --no-sandbox (root gets none).
_SWITCHES = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# a cold JupyterLab on a busy machine
_PATIENCE_MILLISECONDS = 90_000


@contextmanager
def started_chromium(playwright: Playwright, folder: Path) -> Iterator[StartChromium]:
    """Give what starts Chromiums, each with a profile of its own below `folder`."""
    numbers = count(1)
    with ExitStack() as running:

        def start(laptop: Laptop) -> BrowserContext:
            context = playwright.chromium.launch_persistent_context(
                folder / f"profile-{next(numbers)}",
                executable_path=CHROMIUM,
                headless=True,
                chromium_sandbox=False,
                args=list(_SWITCHES),
                env={**laptop.environ},
                viewport={"width": 1280, "height": 800},
            )
            running.callback(context.close)
            context.set_default_timeout(_PATIENCE_MILLISECONDS)
            return context

        yield start


def kill(folder: Path) -> None:
    """SIGKILL all processes of the Chromiums whose profiles lie in a folder."""
    option = f"--user-data-dir={folder}/".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if option in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)


def log_in(page: Page, password: str) -> None:
    """Fill in the login form that is shown."""
    page.fill("input[name=password]", password)
    page.press("input[name=password]", "Enter")


def lab(page: Page) -> Locator:
    """JupyterLab's frame, there once it has started."""
    return page.locator("#jp-main-dock-panel")


def launch(page: Page, url: str, *, workspace: str, card: str) -> None:
    """Open a workspace with nothing in it, and start what a card of its launcher stands for."""
    page.goto(f"{url}/workspaces/{workspace}?reset")
    page.click(f".jp-LauncherCard:has-text({card!r}) >> nth=0")


def status(page: Page, path: str) -> int:
    """What the server answers the page for a path: the browser's cookies, and its own TLS."""
    return int(page.evaluate("path => fetch(path).then(answer => answer.status)", path))


def kernels(page: Page) -> list[str]:
    """The ids of the kernels that the page may see."""
    found = page.evaluate("() => fetch('/api/kernels').then(answer => answer.json())")
    return [str(kernel["id"]) for kernel in found]
