"""Python requirements -> exact versions and hashes, asked of uv on this machine.

uv's own configuration and environment (indexes, credentials, certificates) hold as they
do for the user's other commands; what comes back names no host.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Final, NamedTuple

from jupbox import indexes
from jupbox.errors import ClientError, ResolveError
from jupbox.lock import Architecture, PythonPackage
from jupbox.secret import without_credentials

MACHINES: Final[Mapping[Architecture, str]] = {"amd64": "x86_64", "arm64": "aarch64"}
"""Docker's name of an architecture -> the kernel's, which markers and wheels use."""

# glibc 2.36 is Debian 12's: wheels for it also run on what is newer.
_PLATFORM: Final = "{machine}-manylinux_2_36"
# uv tells "these cannot be had together" from every other failure by its exit code.
_UNSATISFIABLE: Final = 1

_PINNED: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?==(?P<version>[^\s;\\]+)")
# where a package comes from stands on a line of its own below it
_ANNOTATED: Final = re.compile(r"\n +# from (\S+)")
_HASH: Final = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
_BLOCK: Final = re.compile(r"^\W*(?P<kind>error|cause|Caused by|hint|warning): ", re.MULTILINE)
# the frame that some versions of uv draw around a cause, and carets under a wrong character
_DRAWING: Final = re.compile(r"^[\s\u00d7│╰─▶├^]+", re.MULTILINE)
_STDIN: Final = re.compile(r" in `-`( at position \d+)?")
# what each of uv's reasons begins and ends with, and what jupbox itself has told uv
_CONCLUSION: Final = re.compile(
    r"^because |, we can conclude that your requirements are unsatisfiable", re.IGNORECASE
)
_NO_BUILD: Final = re.compile(r" because building from source is disabled[^()]*(\([^()]*\))?")
_FAILED_BUILD: Final = re.compile(r"Failed to (?:download and )?build `(?P<package>[^`]+)`")
_LONGEST_REASON: Final = 300


def uv_version() -> str:
    """The version of the uv that jupbox is installed with."""
    return importlib.metadata.version("uv")


def find_uv() -> Path:
    """The uv that jupbox is installed with.

    Raises:
        ClientError: its program is not there.
    """
    import uv  # noqa: PLC0415  # costs every command that resolves nothing

    try:
        return Path(uv.find_uv_bin())
    except FileNotFoundError:
        raise ClientError(
            "The program uv, which jupbox is installed with, is not there.",
            remedy="Install jupbox again, or uv beside it.",
        ) from None


def resolve_python(
    requirements: Sequence[str],
    *,
    python_version: str,
    uv: Path | None = None,
    environ: Mapping[str, str],
    ca_bundle: Path | None,
    cwd: Path | None,
    prefer: Sequence[PythonPackage] = (),
    index_names: Mapping[str, str] = MappingProxyType({}),
    constraints: Sequence[str] = (),
    sources: bool = False,
) -> tuple[PythonPackage, ...]:
    """The packages that satisfy `requirements` on Linux, x86-64 and arm64.

    Args:
        requirements: PEP 508 strings without addresses.
        python_version: the interpreter's, such as `3.13`.
        uv: the program; None finds jupbox's own.
        environ: the user's environment, in which uv runs.
        ca_bundle: certificates that uv trusts where `environ` names none of its own.
        cwd: the project's folder, whose uv configuration holds; None is the current one.
        prefer: versions that are taken where they fit, so that nothing moves without need.
        index_names: names of further indexes, by `indexes.plain` address; packages keep them.
        constraints: versions that must be taken, of packages that nothing here asks for perhaps.
        sources: where wheels alone do not do, take source distributions, too; one that does not
            say what it needs is asked by running its build here.

    Raises:
        ResolveError: they do not resolve, or the index cannot be reached.
        ClientError: there is no uv.
    """
    _refuse_options([*requirements, *constraints])
    if not requirements:
        return ()
    run = _Uv(program=uv or find_uv(), environ=with_bundle(environ, ca_bundle), cwd=cwd)
    ask = partial(
        _compile_all, requirements, python_version, run, prefer=prefer, constraints=constraints
    )
    try:
        compiled = ask(sources=False)
    except _Unsatisfiable as wheels:
        if not sources:
            raise wheels.error from None
        try:
            compiled = ask(sources=True)
        except _Unsatisfiable as all_files:
            raise all_files.error from None
    return merge_platforms(
        {
            architecture: [_named_index(package, index_names) for package in packages]
            for architecture, packages in compiled.items()
        }
    )


class _Unsatisfiable(Exception):
    """These packages cannot be had together: `error` is what that is for a user."""

    def __init__(self, error: ResolveError) -> None:
        super().__init__(error.message)
        self.error = error


def _compile_all(
    requirements: Sequence[str], python_version: str, uv: _Uv, *,
    prefer: Sequence[PythonPackage], constraints: Sequence[str], sources: bool,
) -> dict[Architecture, list[PythonPackage]]:  # fmt: skip
    return {
        architecture: _compile(
            requirements, python_version, machine, uv,
            prefer=prefer, constraints=constraints, sources=sources,
        )
        for architecture, machine in MACHINES.items()
    }  # fmt: skip


def _named_index(package: PythonPackage, names: Mapping[str, str]) -> PythonPackage:
    return replace(package, index=names.get(indexes.plain(package.index or "")))


def resolve_uv(
    version: str | None,
    *,
    python_version: str,
    uv: Path | None = None,
    environ: Mapping[str, str],
    ca_bundle: Path | None,
    cwd: Path | None,
    index_names: Mapping[str, str] = MappingProxyType({}),
) -> PythonPackage:
    """uv's own package, by which images install the others; None is the version in use here.

    Raises:
        ResolveError: the index has no such version, or cannot be reached.
        ClientError: there is no uv.
    """
    (package,) = resolve_python(
        [f"uv=={version or uv_version()}"],
        python_version=python_version,
        uv=uv,
        environ=environ,
        ca_bundle=ca_bundle,
        cwd=cwd,
        index_names=index_names,
    )
    return package


def merge_platforms(
    resolved: Mapping[Architecture, Sequence[PythonPackage]],
) -> tuple[PythonPackage, ...]:
    """One list for all architectures: a marker stands only where they differ."""
    where: dict[tuple[str, str], list[Architecture]] = {}
    hashes: dict[tuple[str, str], set[str]] = {}
    index: dict[tuple[str, str], str | None] = {}
    source: dict[tuple[str, str], bool] = {}
    for architecture, packages in resolved.items():
        for package in packages:
            key = (package.name, package.version)
            where.setdefault(key, []).append(architecture)
            hashes.setdefault(key, set()).update(package.hashes)
            index[key] = package.index
            source[key] = source.get(key, False) or package.source
    return tuple(
        PythonPackage(
            name=name,
            version=version,
            marker=_marker(where[name, version], resolved),
            hashes=tuple(sorted(hashes[name, version])),
            index=index[name, version],
            source=source[name, version],
        )
        for name, version in sorted(where)
    )


def _marker(present: Sequence[Architecture], resolved: Mapping[Architecture, object]) -> str | None:
    if set(present) == set(resolved):
        return None
    return " or ".join(f"platform_machine == '{MACHINES[item]}'" for item in sorted(present))


def _refuse_options(requirements: Sequence[str]) -> None:
    # each becomes a line of a requirements file, where a minus begins an option
    for requirement in requirements:
        if not requirement.isprintable() or requirement.lstrip().startswith("-"):
            raise ResolveError(
                f"{requirement!r} is not a Python requirement.",
                remedy="Write a package's name and versions, such as pandas>=2.",
            )


def with_bundle(environ: Mapping[str, str], ca_bundle: Path | None) -> dict[str, str]:
    """uv's environment, with the certificates of the user's network."""
    # a shell expands no `~` that is quoted, and uv does not either
    bundle = Path(own).expanduser() if (own := environ.get("SSL_CERT_FILE")) else ca_bundle
    return {**environ, "SSL_CERT_FILE": str(bundle)} if bundle else dict(environ)


@dataclass(frozen=True, kw_only=True)
class _Uv:
    """Where and how uv runs."""

    program: Path
    environ: Mapping[str, str]
    cwd: Path | None

    def __call__(self, arguments: Sequence[str], text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.program), *arguments],
            input=text,
            env=self.environ,
            cwd=self.cwd,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )


def _arguments(python_version: str, machine: str, *, sources: bool) -> list[str]:
    return [
        *("pip", "compile", "-"),
        *("--quiet", "--color", "never", "--no-progress"),
        *("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"),
        "--emit-index-annotation",
        *("--generate-hashes", "--no-universal"),
        *(() if sources else ("--only-binary", ":all:")),
        *("--python-version", python_version),
        *("--python-platform", _PLATFORM.format(machine=machine)),
        # At most a source distribution is asked what it needs, so any interpreter does; without
        # this uv downloads one of that version.
        *("--python", sys.executable, "--no-python-downloads"),
    ]


def _compile(
    requirements: Sequence[str], python_version: str, machine: str, uv: _Uv, *,
    prefer: Sequence[PythonPackage], constraints: Sequence[str], sources: bool,
) -> list[PythonPackage]:  # fmt: skip
    text = "\n".join(requirements) + "\n"
    with TemporaryDirectory(prefix="jupbox-") as folder:
        # named, because uv's configuration may name a file of the project's
        output = Path(folder, "requirements.txt")
        # what stands in its output already, uv keeps where it can
        output.write_text("".join(f"{one.name}=={one.version}\n" for one in prefer))
        arguments = _arguments(python_version, machine, sources=sources)
        arguments += ["--output-file", str(output)]
        if constraints:
            pins = Path(folder, "constraints.txt")
            pins.write_text("".join(f"{one}\n" for one in constraints))
            arguments += ["--constraint", str(pins)]
        done = uv(arguments, text)
        if done.returncode == 0:
            found = _packages(output.read_text(encoding="utf-8"))
            return [replace(package, source=sources) for package in found]
        if sources and (failed := _failed_build(done.stderr)):
            raise failed
        # What fails the same way without a network has nothing to do with the index.
        if done.returncode != _UNSATISFIABLE:
            offline = uv([*arguments, "--offline"], text)
            raise _unusable(done.stderr, reached=offline.returncode == done.returncode)
    error = ResolveError(
        f"The Python packages do not resolve (Python {python_version}, {machine}): "
        f"{_reason(done.stderr)}",
        remedy="Change the requirement in jupbox.toml; source distributions count, too, as the "
        "definition is not reproducible."
        if sources
        else "Change the requirement in jupbox.toml; only wheels for Linux count.",
    )
    raise _Unsatisfiable(error)


def _unusable(stderr: str, *, reached: bool) -> ResolveError:
    """The error of a uv that came to no answer."""
    if reached:
        return ResolveError(
            f"uv cannot work with these requirements: {_cause(stderr)}",
            remedy="Correct the requirement in jupbox.toml, or uv's own configuration.",
        )
    return ResolveError(
        f"The Python package index was not reached, or gave no answer: {_cause(stderr)}",
        remedy="Check the network, the proxy and the index in uv's configuration, then try again.",
    )


def _packages(text: str) -> Iterator[PythonPackage]:
    """The packages of a compiled requirements file with hashes."""
    for line in _ANNOTATED.sub(r" # from \1", text.replace("\\\n", " ")).splitlines():
        if not line or line.startswith(("#", "--")):
            continue
        pinned, hashes = _PINNED.match(line), _HASH.findall(line)
        if pinned is None or not hashes:
            package = without_credentials(line).split()[0]
            raise ResolveError(
                f"{package} has no version and hash that a lock could hold.",
                remedy="Take it from a package index, not from an address or a folder.",
            )
        name = re.sub(r"[-_.]+", "-", pinned["name"]).lower()
        yield PythonPackage(
            name=name, version=pinned["version"], marker=None, hashes=tuple(sorted(set(hashes))),
            index=line.partition(" # from ")[2] or None,
        )  # fmt: skip


# --- uv's words, shortened --------------------------------------------------------------------


class _Block(NamedTuple):
    kind: str
    text: str


def _blocks(stderr: str) -> list[_Block]:
    """The error, its causes and hints, each on one line without decoration."""
    plain = stderr.replace("  \N{MULTIPLICATION SIGN} ", "error: ", 1).replace("╰─▶ ", "cause: ", 1)
    pieces = _BLOCK.split(without_credentials(plain))[1:]
    return [
        _Block(kind="cause" if kind == "Caused by" else kind, text=_one_line(text))
        for kind, text in zip(pieces[::2], pieces[1::2], strict=True)
    ]


def _one_line(text: str) -> str:
    return " ".join(_DRAWING.sub("", text).split())


def _reason(stderr: str) -> str:
    """Why packages cannot be had together: the conclusion, and uv's first hint."""
    blocks = _blocks(stderr)
    why = next((block.text for block in blocks if block.kind == "cause"), "uv gives no reason.")
    if len(why) > _LONGEST_REASON // 2:
        why = re.split(r"(?<=\.) (?=And |Because )", why)[-1].removeprefix("And ")
    hint = next((block.text for block in blocks if block.kind == "hint"), "")
    return _short(_NO_BUILD.sub("", _CONCLUSION.sub("", f"{why} {hint}")).strip())


def _failed_build(stderr: str) -> ResolveError | None:
    """The error of a source distribution whose build did not say what it needs."""
    failed = _FAILED_BUILD.search(stderr)
    if failed is None:
        return None
    said = without_credentials(re.split(r"^hint: ", stderr[failed.end() :], flags=re.MULTILINE)[0])
    words = [line for line in map(_one_line, said.splitlines()) if line]
    return ResolveError(
        f"{without_credentials(failed['package'])} has no wheel that fits, and the build of its "
        f"source distribution failed here: {_short(words[-1] if words else 'uv gives no reason.')}",
        remedy="Install on this machine what its build asks for, or take a version that has wheels "
        "for Linux.",
    )


def _cause(stderr: str) -> str:
    """What went wrong, and at the bottom of it what."""
    blocks = _blocks(stderr)
    error = [block.text for block in blocks if block.kind == "error"]
    causes = [block.text for block in blocks if block.kind == "cause"]
    words = dict.fromkeys([*(causes[:1] if len(causes) > 1 else error[:1]), *causes[-1:]])
    return _short(_STDIN.sub("", ": ".join(words)) or "uv gives no reason.")


def _short(text: str) -> str:
    text = text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"
    return text if text.endswith((".", "…")) else f"{text}."
