"""What cells print while no page is open is in the notebook, and in the next page."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import count

import pytest

from tests.images.box import Browser, RunningServer, until
from tests.images.conftest import serving
from tests.images.notebook_page import NotebookPage, notebook, opened, printed

SLOW = "import time\nfor n in range({lines}):\n    print('line', n)\n    time.sleep(0.1)"
_numbers = count(1)


def lines(number: int) -> str:
    return "".join(f"line {n}\n" for n in range(number))


@pytest.fixture
def page(browser: Browser) -> Iterator[NotebookPage]:
    """A page with a notebook of two empty cells and its kernel."""
    browser.log_in_by_control()
    made = opened(browser, f"kept-{next(_numbers)}.ipynb", "", "")
    yield made
    browser.request("DELETE", f"/api/kernels/{made.kernel}")


def test_no_line_is_lost_when_the_page_vanishes(page: NotebookPage) -> None:
    page.run(SLOW.format(lines=20))
    page.run("import sys; print('oh', file=sys.stderr); 1 / 0", cell="b")
    page.vanish()
    until(lambda: page.file()["cells"][1]["execution_count"] == 2, within=60)
    first, second = page.file()["cells"]
    assert (printed(first), first["execution_count"]) == (lines(20), 1)
    assert [output["output_type"] for output in second["outputs"]] == ["stream", "error"]
    assert second["outputs"][1]["ename"] == "ZeroDivisionError"


def test_whoever_reads_the_notebook_gets_what_there_is_so_far(page: NotebookPage) -> None:
    run = page.run("print('now')\nimport threading; threading.Event().wait(60)")
    page.hear(run, "stream")
    page.vanish()
    assert printed(page.read()["cells"][0]) == "now\n"
    assert printed(page.file()["cells"][0]) == "now\n"


def test_a_page_that_shows_a_run_is_left_to_save_it(page: NotebookPage) -> None:
    page.finish(page.run("print(1)"))
    assert page.read()["cells"][0]["outputs"] == []
    assert page.missed() == []
    page.vanish()
    assert printed(page.read()["cells"][0]) == "1\n"


def test_the_next_page_is_told_all_of_it_once_and_goes_on(page: NotebookPage) -> None:
    run = page.run(SLOW.format(lines=20))
    page.hear(run, "stream")
    page.vanish()
    page.read()
    other = page.reopened()
    assert [(each["id"], each["cell"], each["watched"]) for each in other.missed()] == [
        (run, "a", False)
    ]
    other.show(run)
    heard = other.finish(run)
    assert other.shown(heard) == lines(20)
    [reply] = [each["content"] for each in heard if each["msg_type"] == "execute_reply"]
    assert (reply["status"], reply["execution_count"]) == ("ok", 1)
    assert len({message["header"]["session"] for message in heard}) == 1
    saved = notebook("", "")
    saved["cells"][0] |= {"execution_count": 1, "outputs": []}
    other.save(saved)
    assert other.missed() == []


def test_what_ended_before_it_was_saved_can_be_shown_as_well(page: NotebookPage) -> None:
    run = page.run("print(1)\n1 / 0")
    page.finish(run)
    other = page.reopened()
    assert [each["watched"] for each in other.missed()] == [True]
    other.show(run)
    heard = other.finish(run)
    assert other.shown(heard) == "1\n"
    assert "ZeroDivisionError" in [each["content"].get("ename") for each in heard]


def test_a_run_that_is_not_known_ends_at_once(page: NotebookPage) -> None:
    page.show("unknown")
    assert page.hear("unknown", "execute_reply")[-1]["content"]["status"] == "aborted"


@pytest.mark.parametrize("asked_first", [True, False])
def test_the_next_page_answers_what_the_kernel_asks(page: NotebookPage, asked_first: bool) -> None:
    pause = 0 if asked_first else 3
    run = page.run(f"import time; time.sleep({pause}); print('hello', input('who? '))")
    page.hear(run, "input_request" if asked_first else "execute_input")
    page.vanish()
    other = page.reopened()
    other.show(run)
    question = other.hear(run, "input_request")[-1]
    assert question["content"]["prompt"] == "who? "
    other.answer(question, "Ada")
    assert other.shown(other.finish(run)) == "hello Ada\n"


def test_a_page_that_comes_back_finds_no_change_of_others(page: NotebookPage) -> None:
    run = page.run(SLOW.format(lines=10))
    page.hear(run, "execute_input")
    before = page.state()
    page.vanish()
    until(lambda: printed(page.file()["cells"][0]) == lines(10), within=30)
    assert page.state() == before
    page.connect()
    assert page.shown(page.finish(run)) == lines(10)
    assert page.missed() == []
    assert page.state() == before
    page.save(notebook("mine", ""))
    assert page.state() != before


def test_a_page_that_was_cut_off_is_told_again_what_went_into_the_dead_line(
    page: NotebookPage,
) -> None:
    run = page.run(SLOW.format(lines=20))
    page.hear(run, "stream")
    # what the kernel says now goes into this connection, and nobody reads it any more
    into_the_void = time.monotonic() + 0.7
    until(lambda: time.monotonic() > into_the_void)
    page.vanish()
    page.connect()
    heard = page.finish(run)
    kinds = [message["msg_type"] for message in heard]
    assert page.shown(heard[kinds.index("clear_output") :]) == lines(20)


def test_a_run_that_ended_unseen_is_told_to_the_page_that_comes_back(page: NotebookPage) -> None:
    run = page.run("print('all of it')")
    until(lambda: page.browser.server.ask("summary")["busy"] == 0)
    page.vanish()
    page.connect()
    assert page.shown(page.finish(run)) == "all of it\n"


def test_after_another_page_has_read_it_there_is_a_change(page: NotebookPage) -> None:
    before = page.state()
    page.finish(page.run("print(1)"))
    page.vanish()
    page.read()
    assert page.state() != before


def test_an_interrupt_reaches_what_runs_without_a_page(page: NotebookPage) -> None:
    run = page.run("print('go')\nimport time; time.sleep(60)")
    page.hear(run, "stream")
    page.vanish()
    page.browser.request("POST", f"/api/kernels/{page.kernel}/interrupt", "{}")
    until(lambda: len(page.read()["cells"][0]["outputs"]) == 2)
    assert page.file()["cells"][0]["outputs"][1]["ename"] == "KeyboardInterrupt"


def test_what_was_printed_before_a_kernel_died_is_kept(page: NotebookPage) -> None:
    run = page.run(
        "print('go', flush=True)\nimport os, time; time.sleep(1); os.kill(os.getpid(), 9)"
    )
    page.hear(run, "stream")
    page.run("print('never')", cell="b")
    page.vanish()
    until(lambda: len(page.missed()) == 1, within=40)
    assert [printed(cell) for cell in page.read()["cells"]] == ["go\n", ""]


@pytest.mark.parametrize("end", ["restart", "shutdown"])
def test_what_was_printed_outlives_the_kernel(page: NotebookPage, end: str) -> None:
    run = page.run("print('go')\nimport time; time.sleep(60)")
    page.hear(run, "stream")
    page.vanish()
    if end == "restart":
        page.browser.request("POST", f"/api/kernels/{page.kernel}/restart", "{}")
    else:
        page.browser.request("DELETE", f"/api/kernels/{page.kernel}")
    until(lambda: printed(page.file()["cells"][0]) == "go\n", within=30)


def test_a_renamed_notebook_gets_what_still_runs(page: NotebookPage) -> None:
    page.hear(page.run(SLOW.format(lines=10)), "stream")
    page.vanish()
    new = page.path.replace("kept", "renamed")
    answer = page.browser.request("PATCH", f"/api/contents/{page.path}", json.dumps({"path": new}))
    assert answer.status == 200
    page.path = new
    until(lambda: printed(page.read()["cells"][0]) == lines(10))


def test_a_deleted_notebook_does_not_come_back(page: NotebookPage) -> None:
    page.hear(page.run(SLOW.format(lines=5)), "stream")
    page.vanish()
    page.browser.request("DELETE", f"/api/contents/{page.path}")
    assert page.browser.get(f"/api/contents/{page.path}").status == 404


def test_an_ordinary_end_of_the_server_writes_what_is_left() -> None:
    with serving() as server:
        browser = Browser(server=server, address="127.9.9.1")
        browser.log_in_by_control()
        page = opened(browser, "end.ipynb", "")
        page.hear(page.run("print('go')\nimport time; time.sleep(60)"), "stream")
        page.vanish()
        server.stop()
        assert printed(page.file()["cells"][0]) == "go\n"


def test_it_can_be_switched_off() -> None:
    with serving(variables={"JUPBOX_KEEP_OUTPUT": "0"}) as server:
        browser = Browser(server=server, address="127.9.9.2")
        browser.log_in_by_control()
        assert browser.get("/jupbox/runs?kernel=a&session=b").status == 404
        assert "jupbox-runs" not in browser.get("/lab").text
        page = opened(browser, "off.ipynb", "")
        assert page.shown(page.finish(page.run("print(1)"))) == "1\n"
        page.vanish()
        assert page.read()["cells"][0]["outputs"] == []


def test_jupyterlab_is_given_its_part(browser: Browser) -> None:
    browser.log_in_by_control()
    assert "jupbox-runs" in browser.get("/lab").text
    path = "/lab/extensions/jupbox-runs/static/remoteEntry.js"
    assert "jupbox-runs" in browser.get(path).text


def test_the_list_of_runs_is_for_who_is_logged_in(server: RunningServer, browser: Browser) -> None:
    assert browser.get("/jupbox/runs?kernel=a&session=b").status == 403
    elsewhere = Browser(server=server, address=browser.address, host="evil.example")
    assert elsewhere.get("/jupbox/runs?kernel=a&session=b").status == 403


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "POST"])
def test_files_are_for_who_is_logged_in(browser: Browser, method: str) -> None:
    assert browser.request(method, "/api/contents/a.ipynb", "{}").status == 403
