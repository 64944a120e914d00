"""The tables of README that the code knows: `python -m tests.readme` writes them, `--check` looks.

Each stands between `<!-- name -->` and `<!-- /name -->`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from jupbox import errors, reference
from jupbox.cli import INTERRUPTED

README = Path(__file__).resolve().parents[1] / "README.md"
COMMAND = "python -m tests.readme"


def subclasses(kind: type[errors.JupboxError]) -> Iterator[type[errors.JupboxError]]:
    """Every error below `kind`."""
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def error_table() -> str:
    """Every exit code of the program's own."""
    kinds = {errors.JupboxError, *subclasses(errors.JupboxError)}
    rows = [(kind.exit_code, kind.meaning, kind.remedy_hint) for kind in kinds]
    rows.append((INTERRUPTED, "interrupted with Ctrl-C", "the same command goes on from there"))
    lines = ["| code | meaning | what to do |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {code} | {text} | {do} |" for code, text, do in sorted(rows))])


TABLES: Mapping[str, Callable[[], str]] = {"keys": reference.markdown, "errors": error_table}


def generated(text: str) -> str:
    """README's text with its tables as the code has them now."""
    for name, table in TABLES.items():
        before, opening, rest = text.partition(f"<!-- {name} -->")
        _, closing, after = rest.partition(f"<!-- /{name} -->")
        if not (opening and closing):
            raise ValueError(f"README has no place for {name}")
        text = f"{before}{opening}\n{table()}\n{closing}{after}"
    return text


def main(arguments: list[str]) -> None:
    """Write, or look and fail."""
    text = README.read_text(encoding="utf-8")
    wanted = generated(text)
    if arguments == ["--check"]:
        sys.exit(0 if text == wanted else f"README is not what the code says: {COMMAND}")
    if text != wanted:
        README.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
