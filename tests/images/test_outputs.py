"""What a kernel's messages make of a cell, without a kernel."""

from __future__ import annotations

from typing import Any

import pytest
from jupbox_server.notebooks import place
from jupbox_server.outputs import Outputs, settle
from jupbox_server.runs import Run


def stream(text: str, name: str = "stdout") -> tuple[str, dict[str, Any]]:
    return "stream", {"name": name, "text": text}


def display(text: str, display_id: str | None = None) -> tuple[str, dict[str, Any]]:
    transient = {"display_id": display_id} if display_id else {}
    return "display_data", {"data": {"text/plain": text}, "metadata": {}, "transient": transient}


def made_of(*messages: tuple[str, dict[str, Any]]) -> Outputs:
    outputs = Outputs()
    for kind, content in messages:
        outputs.take(kind, content)
    return outputs


def texts(outputs: Outputs) -> list[str]:
    return [output.get("text") or output["data"]["text/plain"] for output in outputs.as_notebook()]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain", "plain"),
        (" 10%\r 20%", " 20%"),
        ("longer\rab", "abnger"),
        ("50%\r", "50%\r"),
        ("abc\b\bX", "aX"),
        ("\babc", "\babc"),
    ],
)
def test_a_line_is_what_a_terminal_would_leave(line: str, shown: str) -> None:
    assert settle(line) == shown


def test_a_progress_bar_of_a_night_is_one_line() -> None:
    steps = [stream(f"\r{percent:3}%") for percent in range(101)]
    assert texts(made_of(stream("go\n"), *steps, stream("\ndone\n"))) == ["go\n100%\ndone\n"]


def test_a_line_may_come_in_pieces() -> None:
    assert texts(made_of(stream("a"), stream("b\nc"), stream("\r"), stream("d\r\ne"))) == [
        "ab\nd\ne"
    ]


def test_streams_stay_in_the_order_in_which_they_came() -> None:
    mixed = made_of(stream("a\n"), stream("b\n"), stream("oh\n", "stderr"), stream("c\n"))
    assert texts(mixed) == ["a\nb\n", "oh\n", "c\n"]


def test_clearing_may_wait_for_what_comes_next() -> None:
    assert texts(made_of(stream("a"), ("clear_output", {"wait": False}))) == []
    waiting = made_of(stream("a"), ("clear_output", {"wait": True}))
    assert texts(waiting) == ["a"]
    waiting.take(*stream("b"))
    assert texts(waiting) == ["b"]


def test_a_display_is_updated_where_it_stands() -> None:
    outputs = made_of(display("0", "bar"), display("fixed"), display("1", "bar"))
    assert outputs.update(display("9", "bar")[1])
    assert texts(outputs) == ["9", "fixed", "9"]
    assert not outputs.update(display("9", "other")[1])


def test_messages_made_of_outputs_make_the_same_outputs() -> None:
    error = {"ename": "E", "evalue": "v", "traceback": ["t"]}
    result = {"data": {"text/plain": "4"}, "metadata": {"a": 1}, "execution_count": 3}
    outputs = made_of(
        stream("a\n"), display("x", "d"), ("execute_result", result), ("error", error),
        ("clear_output", {"wait": True}),
    )  # fmt: skip
    again = made_of(*outputs.as_messages())
    assert again.as_notebook() == outputs.as_notebook()
    assert (again.failed, outputs.failed) == (error, error)
    again.take(*stream("new"))
    assert texts(again) == ["new"]


def run_of(cell: str, code: str, *messages: tuple[str, dict[str, Any]]) -> Run:
    run = Run(id=f"run-{cell}", header={}, kernel="k", cell=cell, code=code, page="p", count=7)
    run.outputs = made_of(*messages)
    return run


def notebook_of(*cells: dict[str, Any], minor: int = 5) -> dict[str, Any]:
    return {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": minor}


def code_cell(source: str, **more: Any) -> dict[str, Any]:
    whole = {"cell_type": "code", "source": source, "metadata": {}, "outputs": []}
    return whole | {"execution_count": None} | more


def test_a_run_goes_into_the_cell_with_its_id() -> None:
    notebook = notebook_of(code_cell("x", id="a"), code_cell("edited since", id="b"))
    run = run_of("b", "x", stream("out\n"))
    assert place(notebook, [run], new=lambda run: True) == [run]
    assert [cell["execution_count"] for cell in notebook["cells"]] == [None, 7]
    assert notebook["cells"][1]["outputs"][0]["text"] == "out\n"
    assert notebook["cells"][1]["source"] == "edited since"


def test_a_notebook_without_ids_is_gone_by_its_code() -> None:
    notebook = notebook_of(code_cell("x"), code_cell("y"), minor=4)
    runs = [run_of("made-up", "y", stream("out\n"))]
    assert place(notebook, runs, new=lambda run: True) == runs
    assert [cell["execution_count"] for cell in notebook["cells"]] == [None, 7]


def test_a_cell_that_was_never_saved_follows_the_one_that_ran_before() -> None:
    notebook = notebook_of(code_cell("x", id="a"), code_cell("y", id="b"))
    runs = [run_of("a", "x"), run_of("new", "z = 1", stream("out\n")), run_of("new2", "w")]
    assert place(notebook, runs, new=lambda run: True) == runs
    assert [cell["id"] for cell in notebook["cells"]] == ["a", "new", "new2", "b"]
    assert notebook["cells"][1]["source"] == "z = 1"


def test_a_cell_that_was_deleted_stays_deleted() -> None:
    notebook = notebook_of(code_cell("x", id="a"), {"cell_type": "markdown", "id": "b"})
    runs = [run_of("gone", "z"), run_of("b", "text now")]
    assert place(notebook, runs, new=lambda run: False) == []
    assert len(notebook["cells"]) == 2
