"""The hosts that the user's own ssh configuration names (`man ssh_config`)."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# a keyword, then its arguments after blanks or one equals sign
_LINE: Final = re.compile(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(\S.*)")
_ARGUMENT: Final = re.compile(r'"([^"]*)"|(\S+)')
# a name with one of them is a pattern, or takes back another
_PATTERN: Final = re.compile(r"[*?!]")
# OpenSSH's own limit (readconf.c, READCONF_MAX_DEPTH)
_DEEPEST: Final = 16


def host_names(home: Path) -> tuple[str, ...]:
    """The names of `Host` lines of `~/.ssh/config` and what it includes, patterns left out.

    A file that cannot be read counts as empty: ssh itself says what is wrong with it.

    Args:
        home: the user's home directory.
    """
    names = _names(home / ".ssh" / "config", home, depth=0)
    return tuple(dict.fromkeys(name for name in names if not _PATTERN.search(name)))


def _names(path: Path, home: Path, *, depth: int) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for keyword, words in _lines(text):
        if keyword == "host":
            yield from words
        elif keyword == "include" and depth < _DEEPEST:
            for word in words:
                for included in _included(word, home):
                    yield from _names(included, home, depth=depth + 1)


def _lines(text: str) -> Iterator[tuple[str, list[str]]]:
    for line in text.splitlines():
        if not (match := _LINE.match(line)):
            continue  # a comment begins with no letter
        words = [quoted or bare for quoted, bare in _ARGUMENT.findall(match[2])]
        comment = next((at for at, word in enumerate(words) if word.startswith("#")), len(words))
        yield match[1].lower(), words[:comment]


def _included(word: str, home: Path) -> list[Path]:
    """The files that an `Include` means: relative ones lie in ~/.ssh, wildcards are allowed."""
    pattern = f"{home}/{word[2:]}" if word.startswith("~/") else str(home / ".ssh" / word)
    return [Path(found) for found in sorted(glob.glob(pattern))]  # noqa: PTH207 - absolute patterns
