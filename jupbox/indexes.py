"""Python indexes as uv's configuration names them, in the words of variables.

A build sees no file of the project, and pip, which puts uv itself into the build, does not read
uv's configuration: both are told by variables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit

_ADDRESS: Final = re.compile(r"https?://", re.IGNORECASE)
# `name=https://…`; a password in the address may hold a `=` too
_NAMED: Final = re.compile(r"^([\w.-]+)=(?=https?://)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Index:
    """A Python index.

    Attributes:
        url: its address, with credentials perhaps.
        default: it stands in for the public one.
    """

    url: str = field(repr=False)
    name: str = ""
    default: bool = False

    @property
    def text(self) -> str:
        """As uv's variables spell it."""
        return f"{self.name}={self.url}" if self.name else self.url


def of_settings(settings: Mapping[str, Any]) -> tuple[Index, ...]:
    """The indexes of a uv.toml, or of `[tool.uv]`, that hold for every package.

    What has no form that uv knows is left out: uv itself says what is wrong with it.
    """
    pip = settings.get("pip")
    found = [
        *_tables(settings.get("index")),
        *_old(pip if isinstance(pip, dict) else {}),
        *_old(settings),
    ]
    first = next((index for index in found if index.default), None)
    return tuple(index for index in found if index is first or not index.default)


def _tables(tables: object) -> Iterator[Index]:
    for table in tables if isinstance(tables, list) else ():
        # an explicit one serves only the packages that are pinned to it
        if isinstance(table, dict) and _is_address(table.get("url")) and not table.get("explicit"):
            name, default = str(table.get("name") or ""), table.get("default") is True
            yield Index(url=table["url"], name=name, default=default)


def _old(settings: Mapping[str, Any]) -> Iterator[Index]:
    if _is_address(settings.get("index-url")):
        yield Index(url=settings["index-url"], default=True)
    extra = settings.get("extra-index-url")
    yield from (Index(url=url) for url in extra or () if _is_address(url))


def _is_address(value: object) -> bool:
    return isinstance(value, str) and bool(_ADDRESS.match(value))


def of_variables(environ: Mapping[str, str]) -> Index | None:
    """The default index that the environment names."""
    text = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL")
    if not text:
        return None
    named = _NAMED.match(text)
    return Index(url=_NAMED.sub("", text), name=named[1] if named else "", default=True)


def more_of_variables(environ: Mapping[str, str]) -> tuple[Index, ...]:
    """The further indexes that the environment names."""
    texts = f"{environ.get('UV_INDEX', '')} {environ.get('UV_EXTRA_INDEX_URL', '')}".split()
    return tuple(
        Index(url=_NAMED.sub("", text), name=named[1] if (named := _NAMED.match(text)) else "")
        for text in texts
        if _is_address(_NAMED.sub("", text))
    )


def as_variables(found: Sequence[Index], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that tell uv of indexes; what the environment names comes before them."""
    default = next((index.text for index in found if index.default), "")
    if of_variables(environ):
        default = ""
    more = [environ.get("UV_INDEX", ""), *(index.text for index in found if not index.default)]
    variables = {"UV_DEFAULT_INDEX": default, "UV_INDEX": " ".join(text for text in more if text)}
    return {name: value for name, value in variables.items() if value}


def plain(url: str) -> str:
    """An index's address without credentials and a slash at its end, to compare it by."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")


def with_credentials(index: Index, environ: Mapping[str, str]) -> str:
    """The index's address with the credentials that uv would take from the environment."""
    key = re.sub(r"[^A-Z0-9]", "_", index.name.upper())
    user = environ.get(f"UV_INDEX_{key}_USERNAME", "")
    password = environ.get(f"UV_INDEX_{key}_PASSWORD", "")
    parts = urlsplit(index.url)
    if not index.name or not (user or password) or "@" in parts.netloc:
        return index.url
    who = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    return parts._replace(netloc=f"{who}@{parts.netloc}").geturl()
