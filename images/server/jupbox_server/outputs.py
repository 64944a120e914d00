"""What a cell has printed, as a notebook keeps it, put together from a kernel's messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Message types that put something below the cell that runs, or take it away.
SHOWN = frozenset({"stream", "display_data", "execute_result", "error", "clear_output"})

_ERROR = ("ename", "evalue", "traceback")

_ERASED = re.compile(r"[^\n\x08]\x08")


def settle(line: str) -> str:
    """What is left of a line after its backspaces and carriage returns, as JupyterLab shows it.

    One carriage return at the end stays: what comes next overwrites the line.
    """
    while _ERASED.search(line):
        line = _ERASED.sub("", line)
    if "\r" not in line:
        return line
    body, end = (line[:-1], "\r") if line.endswith("\r") else (line, "")
    shown = ""
    for part in body.split("\r"):
        shown = part + shown[len(part) :]
    return shown + end


@dataclass
class _Stream:
    """Text of one stream: lines that nothing changes any more, and the one being written."""

    name: str
    lines: list[str] = field(default_factory=list)
    line: str = ""

    def add(self, text: str) -> None:
        text = (self.line + text).replace("\r\n", "\n")
        if "\r" not in text and "\x08" not in text:
            head, newline, self.line = text.rpartition("\n")
            self.lines.append(head + newline)
            return
        *whole, last = text.split("\n")
        self.lines += [settle(line).removesuffix("\r") + "\n" for line in whole]
        self.line = settle(last)

    def output(self) -> dict[str, Any]:
        self.lines = ["".join(self.lines)]
        text = self.lines[0] + self.line
        return {"output_type": "stream", "name": self.name, "text": text}


@dataclass
class _Display:
    """Any other output."""

    value: dict[str, Any]
    display_id: str | None = None

    def output(self) -> dict[str, Any]:
        return self.value


class Outputs:
    """The outputs of one run of one cell.

    Attributes:
        version: rises with every change.
        failed: the error that ended the run, as a reply names it; None if there was none.
    """

    def __init__(self) -> None:
        self._items: list[_Stream | _Display] = []
        self._clear_first = False
        self.version = 0
        self.failed: dict[str, Any] | None = None

    def take(self, kind: str, content: Mapping[str, Any]) -> None:
        """Take over a message of a type in SHOWN.

        Args:
            kind: its type.
            content: its content.
        """
        self.version += 1
        if kind == "clear_output":
            self._clear_first = bool(content.get("wait"))
            if not self._clear_first:
                self._items.clear()
            return
        if kind == "error":
            self.failed = {name: content[name] for name in _ERROR}
        if self._clear_first:
            self._clear_first = False
            self._items.clear()
        if kind == "stream":
            self._stream(str(content["name"])).add(str(content["text"]))
        else:
            display = (content.get("transient") or {}).get("display_id")
            self._items.append(_Display(_value(kind, content), display))

    def _stream(self, name: str) -> _Stream:
        last = self._items[-1] if self._items else None
        if isinstance(last, _Stream) and last.name == name:
            return last
        new = _Stream(name)
        self._items.append(new)
        return new

    def update(self, content: Mapping[str, Any]) -> bool:
        """Change the displays with an id; whether there was one."""
        wanted = (content.get("transient") or {}).get("display_id")
        found = False
        for item in self._items:
            if wanted and isinstance(item, _Display) and item.display_id == wanted:
                item.value = {
                    **item.value,
                    "data": content["data"],
                    "metadata": content.get("metadata") or {},
                }
                found = True
        self.version += found
        return found

    def as_notebook(self) -> list[dict[str, Any]]:
        """As nbformat 4 has them."""
        return [item.output() for item in self._items]

    def as_messages(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Messages (type, content) that make an empty cell show them."""
        for item in self._items:
            value = dict(item.output())
            kind = str(value.pop("output_type"))
            if isinstance(item, _Display) and kind != "error":
                value["transient"] = {"display_id": item.display_id} if item.display_id else {}
            yield kind, value
        if self._clear_first:
            yield "clear_output", {"wait": True}


def _value(kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "error":
        return {"output_type": kind, **{name: content[name] for name in _ERROR}}
    value = {"output_type": kind, "data": content["data"]}
    value["metadata"] = content.get("metadata") or {}
    if kind == "execute_result":
        value["execution_count"] = content.get("execution_count")
    return value
