"""What tomllib leaves out: on which line a key stands, and how a string is written.

`key_lines` expects a text that tomllib has accepted; it only follows the structure
(tables, dotted keys, inline tables, arrays over lines) and never judges it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Final

KeyPath = tuple[str | int, ...]

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_LINE_OF_ERROR: Final = re.compile(
    r"^(?P<what>.*?)\s*\(at (?:line (?P<line>\d+).*|end of document)\)$"
)
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_TRIPLE: Final = ('"""', "'''")


def quote(text: str) -> str:
    """`text` as a basic string on one line, whatever it holds."""
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    return f"\\u{ord(char):04X}" if ord(char) < 0x10000 else f"\\U{ord(char):08X}"


def dotted(path: KeyPath) -> str:
    """A key's full path as one writes it: `images.datasci.python[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else quote(part))
    return text


def syntax_error(error: tomllib.TOMLDecodeError, text: str) -> tuple[int, str]:
    """The line that tomllib stumbled over, and over what.

    Up to Python 3.13 the position stands only in the message. At the end of the
    document it is the last line that holds anything.
    """
    match = _LINE_OF_ERROR.match(str(error))
    what = match["what"] if match else str(error)
    if match and match["line"]:
        return int(match["line"]), what
    return max(1, text.rstrip().count("\n") + 1), what


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """The line of `path`, or of the nearest table around it that is written down."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line, counted from 1, on which each key, table and array element begins."""
    return _Scanner(text).scan()


class _Scanner:
    """One walk over a valid TOML text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[KeyPath, int] = {}
        self._array_tables: dict[KeyPath, int] = {}
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._skip_blank():
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _line(self, at: int) -> int:
        low, high = 0, len(self._line_starts)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._line_starts[middle] <= at else (low, middle)
        return low + 1

    def _note(self, path: KeyPath, at: int) -> None:
        # the first place counts: a table may be named again by its own sub-tables
        for end in range(1, len(path) + 1):
            self._lines.setdefault(path[:end], self._line(at))

    def _skip_blank(self, also: str = "") -> bool:
        """Move to the next character that is neither space, comment nor in `also`."""
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif char.isspace() or char in also:
                self._at += 1
            else:
                return True
        return False

    def _header(self) -> KeyPath:
        start = self._at
        is_array = self._text.startswith("[[", start)
        self._at += 2 if is_array else 1
        path = self._under_arrays(tuple(self._key()))
        if is_array:
            index = self._array_tables.get(path, -1) + 1
            self._array_tables[path] = index
            path = (*path, index)
        self._at = self._text.index("]", self._at) + (2 if is_array else 1)
        self._note(path, start)
        self._lines[path] = self._line(start)
        return path

    def _under_arrays(self, keys: KeyPath) -> KeyPath:
        """`[a.b]` below `[[a]]` belongs to the last element of `a`."""
        path: KeyPath = ()
        for key in keys[:-1]:
            path = (*path, key)
            if path in self._array_tables:
                path = (*path, self._array_tables[path])
        return (*path, *keys[-1:])

    def _pair(self, table: KeyPath) -> None:
        start = self._at
        path = (*table, *self._key())
        self._note(path, start)
        self._lines[path] = self._line(start)
        self._at = self._text.index("=", self._at) + 1
        self._value(path)

    def _key(self) -> Iterator[str]:
        """The parts of a dotted key; ends before what follows it."""
        while True:
            self._skip_blank()
            if self._text[self._at] in "\"'":
                raw = self._string()
                yield str(tomllib.loads(f"key = {raw}")["key"])
            else:
                match = _BARE.match(self._text, self._at)
                if match is None:  # not TOML: leave the loop rather than spin
                    return
                self._at = match.end()
                yield match[0]
            self._skip_blank()
            if self._text[self._at : self._at + 1] != ".":
                return
            self._at += 1

    def _string(self) -> str:
        start = self._at
        mark = next((t for t in _TRIPLE if self._text.startswith(t, start)), self._text[start])
        self._at += len(mark)
        while self._at < len(self._text) and not self._text.startswith(mark, self._at):
            self._at += 2 if self._text[self._at] == "\\" and mark[0] == '"' else 1
        self._at += len(mark)
        # a multi-line string may end in one or two quotes of its own
        while len(mark) == 3 and self._text.startswith(mark[0], self._at):
            self._at += 1
        return self._text[start : self._at]

    def _value(self, path: KeyPath) -> None:
        self._skip_blank()
        char = self._text[self._at : self._at + 1]
        if char in {'"', "'"}:
            self._string()
        elif char == "[":
            self._array(path)
        elif char == "{":
            self._inline_table(path)
        else:
            while self._at < len(self._text) and self._text[self._at] not in ",]}#\r\n":
                self._at += 1

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._skip_blank(also=",") and self._text[self._at] != "]":
            self._lines[(*path, index)] = self._line(self._at)
            self._value((*path, index))
            index += 1
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while self._skip_blank(also=",") and self._text[self._at] != "}":
            self._pair(path)
        self._at += 1
