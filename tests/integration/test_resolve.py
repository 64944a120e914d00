"""Requirements resolved by the real uv: against an index of our own, and once the real one."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import ssl
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jupbox.errors import ClientError, ResolveError
from jupbox.host.resolve import find_uv, merge_platforms, resolve_python, resolve_uv, uv_version
from jupbox.lock import ImageLock, Lock, PythonPackage, dump_lock, load_lock
from jupbox.pki import Names, issue_leaf, make_authority

USER, PASSWORD = "scientist", "s3cret-of-the-index"
X86, ARM = "platform_machine == 'x86_64'", "platform_machine == 'aarch64'"


# --- a package index --------------------------------------------------------------------------


def wheel(name: str, version: str, requires: tuple[str, ...] = ()) -> bytes:
    """The smallest wheel that uv accepts."""
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        folder = f"{name}-{version}.dist-info"
        archive.writestr(f"{folder}/METADATA", "\n".join(metadata) + "\n")
        archive.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        archive.writestr(f"{folder}/RECORD", "")
    return content.getvalue()


def sdist(name: str, version: str) -> bytes:
    """A source distribution whose metadata uv takes without building it."""
    metadata = f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n".encode()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        member = tarfile.TarInfo(f"{name}-{version}/PKG-INFO")
        member.size = len(metadata)
        archive.addfile(member, io.BytesIO(metadata))
    return content.getvalue()


_BACKEND = """
def build_wheel(*arguments):
    raise RuntimeError("no compiler here")
prepare_metadata_for_build_wheel = build_wheel
"""


def broken_sdist(name: str, version: str) -> bytes:
    """A source distribution that must be built to be known, and cannot be."""
    project = "[build-system]\nrequires = []\nbuild-backend = 'back'\nbackend-path = ['.']\n"
    project += f"[project]\nname = '{name}'\ndynamic = ['version', 'dependencies']\n"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        files = {"PKG-INFO": metadata, "pyproject.toml": project, "back.py": _BACKEND}
        for path, text in files.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return content.getvalue()


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True, kw_only=True)
class Index:
    """A running index: its files by name, and the `Authorization` headers that it saw."""

    port: int
    scheme: str
    files: dict[str, bytes]
    credentials: list[str | None] = field(default_factory=list)

    def url(self, userinfo: str = "") -> str:
        return f"{self.scheme}://{userinfo}127.0.0.1:{self.port}/simple"


FILES = {
    "demo-1.0-py3-none-any.whl": wheel("demo", "1.0", ("leaf>=1",)),
    "demo-2.0-py3-none-any.whl": wheel("demo", "2.0", ("leaf>=1",)),
    "leaf-1.0-py3-none-any.whl": wheel("leaf", "1.0"),
    "native-1.0-cp313-cp313-manylinux_2_28_x86_64.whl": wheel("native", "1.0"),
    "native-1.0-cp313-cp313-manylinux_2_28_aarch64.whl": wheel("native", "1.0", ("leaf",)),
    "native-2.0-cp313-cp313-manylinux_2_28_x86_64.whl": wheel("native", "2.0"),
    "future-1.0-cp313-cp313-manylinux_2_39_x86_64.whl": wheel("future", "1.0"),
    "future-1.0-cp313-cp313-manylinux_2_39_aarch64.whl": wheel("future", "1.0"),
    "source-1.0.tar.gz": sdist("source", "1.0"),
    "broken-1.0.tar.gz": broken_sdist("broken", "1.0"),
}


def _handler(
    files: dict[str, bytes], seen: list[str | None], *, hashes: bool, guarded: bool
) -> type[BaseHTTPRequestHandler]:
    wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            if guarded and self.headers["Authorization"] != f"Basic {wanted}":
                self._answer(401, b"")
                return
            kind, name = self.path.strip("/").split("/")[-2:]
            if kind == "files":
                self._answer(200, files[name])
                return
            links = [
                f'<a href="/files/{file}{f"#{sha256(content)}" if hashes else ""}">{file}</a>'
                for file, content in files.items()
                if file.startswith(f"{name}-")
            ]
            page = "\n".join(links).replace("#sha256:", "#sha256=")
            self._answer(200 if links else 404, page.encode())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815  # http.server's name

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output to itself."""

    return Handler


@contextmanager
def serving(
    *, hashes: bool = True, guarded: bool = False, tls: ssl.SSLContext | None = None
) -> Iterator[Index]:
    seen: list[str | None] = []
    files = dict(FILES)
    handler = _handler(files, seen, hashes=hashes, guarded=guarded)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield Index(
            port=server.server_address[1],
            scheme="http" if tls is None else "https",
            files=files,
            credentials=seen,
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def index() -> Iterator[Index]:
    with serving() as running:
        yield running


Resolve = Callable[..., tuple[PythonPackage, ...]]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The user's environment without anything that would lead uv elsewhere."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("UV_")}
    kept.pop("SSL_CERT_FILE", None)
    cache, home = tmp_path / "cache", tmp_path / "home"
    home.mkdir()
    return {
        **kept,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "UV_CACHE_DIR": str(cache),
        "UV_HTTP_RETRIES": "0",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


@pytest.fixture
def resolve(tmp_path: Path, environ: dict[str, str]) -> Resolve:
    folder = tmp_path / "project"
    folder.mkdir()

    def run(
        *requirements: str,
        ca_bundle: Path | None = None,
        uv: Path | None = None,
        prefer: tuple[PythonPackage, ...] = (),
        constraints: tuple[str, ...] = (),
        sources: bool = False,
        **extra: str,
    ) -> tuple[PythonPackage, ...]:
        return resolve_python(
            requirements,
            python_version="3.13",
            uv=uv,
            environ={**environ, **extra},
            ca_bundle=ca_bundle,
            cwd=folder,
            prefer=prefer,
            constraints=constraints,
            sources=sources,
        )

    return run


def _lock_text(packages: tuple[PythonPackage, ...]) -> str:
    image = ImageLock(
        name="x",
        definition="0" * 64,
        system="0" * 64,
        epoch=0,
        uv=packages[0],
        python=packages,
        platforms={},
    )
    text = dump_lock(Lock().with_image(image))
    assert load_lock(text, source="x").images["x"].python == packages
    return text


# --- what resolves ----------------------------------------------------------------------------


def test_the_newest_versions_with_their_dependencies_and_hashes(
    resolve: Resolve, index: Index
) -> None:
    demo, leaf = resolve("demo", UV_DEFAULT_INDEX=index.url())
    assert demo == PythonPackage(
        name="demo",
        version="2.0",
        marker=None,
        hashes=(sha256(FILES["demo-2.0-py3-none-any.whl"]),),
    )
    assert (leaf.name, leaf.version) == ("leaf", "1.0")


def test_a_requirement_of_each_kind_is_honoured(resolve: Resolve, index: Index) -> None:
    packages = resolve(
        "demo<2", "source; sys_platform == 'win32'", "leaf==1.*", UV_DEFAULT_INDEX=index.url()
    )
    assert [(item.name, item.version) for item in packages] == [("demo", "1.0"), ("leaf", "1.0")]


def test_a_version_that_is_preferred_stays_while_it_fits(resolve: Resolve, index: Index) -> None:
    older = resolve("demo==1.0", UV_DEFAULT_INDEX=index.url())
    same = resolve("demo", "leaf", prefer=older, UV_DEFAULT_INDEX=index.url())
    assert {package.name: package.version for package in same} == {"demo": "1.0", "leaf": "1.0"}
    newer = resolve("demo>1", prefer=older, UV_DEFAULT_INDEX=index.url())
    assert {package.name: package.version for package in newer} == {"demo": "2.0", "leaf": "1.0"}


def test_a_constraint_holds_and_brings_no_package(resolve: Resolve, index: Index) -> None:
    found = resolve("demo", constraints=("demo==1.0", "source==1"), UV_DEFAULT_INDEX=index.url())
    assert [(one.name, one.version) for one in found] == [("demo", "1.0"), ("leaf", "1.0")]
    with pytest.raises(ResolveError, match="do not resolve"):
        resolve("demo>1", constraints=("demo==1.0",), UV_DEFAULT_INDEX=index.url())


def test_what_differs_between_x86_and_arm_carries_a_marker(resolve: Resolve, index: Index) -> None:
    packages = resolve("native", UV_DEFAULT_INDEX=index.url())
    assert [(item.name, item.version, item.marker) for item in packages] == [
        ("leaf", "1.0", ARM),
        ("native", "1.0", ARM),
        ("native", "2.0", X86),
    ]
    _lock_text(packages)


def test_an_index_without_hashes_still_gives_a_lock_with_hashes(resolve: Resolve) -> None:
    with serving(hashes=False) as index:
        demo, _ = resolve("demo==2.0", UV_DEFAULT_INDEX=index.url())
    assert demo.hashes == (sha256(FILES["demo-2.0-py3-none-any.whl"]),)


def test_nothing_to_resolve_needs_no_uv(resolve: Resolve) -> None:
    assert resolve(uv=Path("/nonexistent/uv")) == ()


def test_uvs_own_configuration_of_the_project_is_honoured_but_not_its_output(
    resolve: Resolve, index: Index, tmp_path: Path
) -> None:
    config = tmp_path / "project" / "uv.toml"
    config.write_text(
        f'index = [{{ url = "{index.url()}", default = true }}]\n'
        '[pip]\noutput-file = "mine.txt"\nuniversal = true\nemit-index-url = true\n'
        'annotation-style = "line"\n'
    )
    packages = resolve("leaf", "native==2.0; platform_machine == 'x86_64'")
    assert [(item.name, item.marker) for item in packages] == [("leaf", None), ("native", X86)]
    assert list(config.parent.iterdir()) == [config]


def test_uvs_package_is_that_of_the_version_in_use(environ: dict[str, str], index: Index) -> None:
    version = uv_version()
    name = f"uv-{version}-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    other = f"uv-{version}-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.whl"
    files = {name: wheel("uv", version), other: wheel("uv", version, ("leaf; python_version<'3'",))}
    index.files.update(files)
    package = resolve_uv(
        None,
        python_version="3.13",
        environ={**environ, "UV_DEFAULT_INDEX": index.url()},
        ca_bundle=None,
        cwd=None,
    )
    assert (package.name, package.version, package.marker) == ("uv", version, None)
    assert set(package.hashes) == {sha256(content) for content in files.values()}


def test_one_list_of_packages_for_all_architectures() -> None:
    def package(name: str, version: str, *hashes: str) -> PythonPackage:
        return PythonPackage(name=name, version=version, marker=None, hashes=hashes)

    merged = merge_platforms(
        {
            "amd64": [package("b", "1", "h1"), package("a", "1", "h1"), package("c", "2", "h")],
            "arm64": [package("a", "1", "h2"), package("c", "1", "h")],
        }
    )
    assert [(item.name, item.version, item.marker, item.hashes) for item in merged] == [
        ("a", "1", None, ("h1", "h2")),
        ("b", "1", X86, ("h1",)),
        ("c", "1", ARM, ("h",)),
        ("c", "2", X86, ("h",)),
    ]


# --- private indexes, certificates ------------------------------------------------------------


def test_a_private_index_is_used_and_the_lock_names_neither_it_nor_its_credentials(
    resolve: Resolve,
) -> None:
    with serving(guarded=True) as index:
        packages = resolve("demo", UV_DEFAULT_INDEX=index.url(f"{USER}:{PASSWORD}@"))
    assert [item.name for item in packages] == ["demo", "leaf"]
    text = _lock_text(packages)
    for secret in (USER, PASSWORD, "127.0.0.1", str(index.port), "://"):
        assert secret not in text


@pytest.mark.parametrize("userinfo", ["", f"{USER}:wrong-{PASSWORD}@", f"{USER}:p@{PASSWORD}@"])
def test_refused_credentials_are_told_and_not_shown(resolve: Resolve, userinfo: str) -> None:
    with serving(guarded=True) as index, pytest.raises(ResolveError) as caught:
        resolve("demo", UV_DEFAULT_INDEX=index.url(userinfo))
    told = f"{caught.value.message} {caught.value.remedy} {caught.value.__context__!r}"
    assert "401" in told
    assert PASSWORD not in told


@pytest.mark.parametrize(
    "told",
    [
        "error: Failed to fetch\n  cause: https://{} is gone",
        "error: Failed to fetch: `https://{}`\n  Caused by: https://{}\n  Caused by: https://{}\n",
        "  \N{MULTIPLICATION SIGN} No solution\n  ╰─▶ Because https://{} is\n      empty.\n",
    ],
)
@pytest.mark.parametrize("code", [1, 2])
@pytest.mark.parametrize(
    "userinfo", [f"{USER}:{PASSWORD}@", f"{USER}:p@{PASSWORD}@", PASSWORD + "@"]
)
def test_no_credential_passes_that_uv_itself_may_print(
    resolve: Resolve, tmp_path: Path, told: str, code: int, userinfo: str
) -> None:
    fake = tmp_path / "uv"
    words = told.replace("{}", f"{userinfo}index.example/simple")
    fake.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{words}\nEND\nexit {code}\n")
    fake.chmod(0o755)
    with pytest.raises(ResolveError) as caught:
        resolve("demo", uv=fake)
    assert "https://index.example/simple" in caught.value.message
    assert PASSWORD not in caught.value.message
    assert not set("╰─▶\N{MULTIPLICATION SIGN}\n") & set(caught.value.message)


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A network's own CA in a file, and what a server of that network shows."""
    now, names = datetime.now(UTC), Names.of(["localhost", "127.0.0.1"])
    root = make_authority(box="network", names=names, now=now)
    leaf = issue_leaf(authority=root, names=names, now=now)
    bundle, cert, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    bundle.write_bytes(root.certificate_pem)
    cert.write_bytes(leaf.certificate_pem)
    key.touch(mode=0o600)
    key.write_text(leaf.key_pem.reveal())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return bundle, context


def test_a_networks_own_authority_is_trusted_when_the_bundle_is_given(
    resolve: Resolve, authority: tuple[Path, ssl.SSLContext]
) -> None:
    bundle, context = authority
    with serving(tls=context) as index:
        packages = resolve("leaf", ca_bundle=bundle, UV_DEFAULT_INDEX=index.url())
        assert [item.name for item in packages] == ["leaf"]


def test_the_users_own_choice_of_certificates_wins_over_the_bundle(
    resolve: Resolve, authority: tuple[Path, ssl.SSLContext], tmp_path: Path
) -> None:
    bundle, context = authority
    with serving(tls=context) as index:
        packages = resolve(
            "leaf",
            ca_bundle=tmp_path / "not-there.pem",
            SSL_CERT_FILE=str(bundle),
            UV_DEFAULT_INDEX=index.url(),
        )
        assert [item.name for item in packages] == ["leaf"]


def test_an_untrusted_index_is_one_that_was_not_reached(
    resolve: Resolve, authority: tuple[Path, ssl.SSLContext]
) -> None:
    _, context = authority
    with serving(tls=context) as index, pytest.raises(ResolveError) as caught:
        resolve("leaf", UV_DEFAULT_INDEX=index.url())
    assert caught.value.message.startswith("The Python package index was not reached")


# --- what does not resolve --------------------------------------------------------------------


def _failure(resolve: Resolve, *requirements: str, **extra: str) -> ResolveError:
    with pytest.raises(ResolveError) as caught:
        resolve(*requirements, **extra)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 600
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("requirement", "reason"),
    [
        ("demo==9", "demo==9"),
        ("nothing-of-that-name", "nothing-of-that-name was not found"),
        ("source", "source"),
        ("future", "future"),
    ],
)
def test_uvs_reason_is_told_in_short(
    resolve: Resolve, index: Index, requirement: str, reason: str
) -> None:
    error = _failure(resolve, "leaf", requirement, UV_DEFAULT_INDEX=index.url())
    assert error.message.startswith("The Python packages do not resolve (Python 3.13, ")
    assert reason in error.message


def test_a_source_distribution_counts_where_it_may(resolve: Resolve, index: Index) -> None:
    found = resolve("source", "leaf", sources=True, UV_DEFAULT_INDEX=index.url())
    assert all(package.source for package in found)
    hashes = {package.name: package.hashes for package in found}
    assert hashes["source"] == (sha256(FILES["source-1.0.tar.gz"]),)
    assert hashes["leaf"] == (sha256(FILES["leaf-1.0-py3-none-any.whl"]),)


def test_where_wheels_do_no_source_distribution_is_looked_at(
    resolve: Resolve, index: Index
) -> None:
    plain, more = (resolve("demo", sources=s, UV_DEFAULT_INDEX=index.url()) for s in (False, True))
    assert plain == more


def test_a_source_distribution_that_does_not_build_is_named_with_its_reason(
    resolve: Resolve, index: Index
) -> None:
    with pytest.raises(ResolveError) as caught:
        resolve("broken", sources=True, UV_DEFAULT_INDEX=index.url())
    assert caught.value.message == (
        "broken==1.0 has no wheel that fits, and the build of its source distribution failed here: "
        "RuntimeError: no compiler here."
    )


def test_requirements_that_exclude_each_other(resolve: Resolve, index: Index) -> None:
    error = _failure(resolve, "demo==1.0", "demo==2.0", UV_DEFAULT_INDEX=index.url())
    assert "demo==1.0 and demo==2.0" in error.message


@pytest.mark.parametrize("reachable", [True, False])
def test_a_malformed_requirement_is_not_blamed_on_the_network(
    resolve: Resolve, index: Index, reachable: bool
) -> None:
    url = index.url() if reachable else "http://127.0.0.1:9/simple"
    error = _failure(resolve, "demo=>2", UV_DEFAULT_INDEX=url)
    assert error.message.startswith("uv cannot work with these requirements: ")
    assert "demo=>2" in error.message


def test_an_index_out_of_reach_is_told_without_its_credentials(resolve: Resolve) -> None:
    error = _failure(
        resolve, "demo", UV_DEFAULT_INDEX=f"http://{USER}:{PASSWORD}@127.0.0.1:9/simple"
    )
    assert error.message.startswith("The Python package index was not reached")
    assert PASSWORD not in error.message + error.remedy + repr(error.__context__)


def test_what_the_users_configuration_takes_from_a_folder_cannot_be_locked(
    resolve: Resolve, tmp_path: Path
) -> None:
    leaf = tmp_path / "leaf-1.0-py3-none-any.whl"
    leaf.write_bytes(FILES["leaf-1.0-py3-none-any.whl"])
    error = _failure(resolve, f"leaf @ {leaf.as_uri()}", UV_OFFLINE="1")
    assert "no version and hash" in error.message


@pytest.mark.parametrize("requirement", ["-r x.txt", " --index-url=x", "a\nb", "a\x00"])
def test_an_option_never_reaches_uv(resolve: Resolve, requirement: str) -> None:
    error = _failure(resolve, requirement, UV_DEFAULT_INDEX="http://127.0.0.1:9/simple")
    assert "is not a Python requirement" in error.message


def test_a_missing_uv_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import uv

    def missing() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(uv, "find_uv_bin", missing)
    with pytest.raises(ClientError):
        find_uv()


# --- the real index ---------------------------------------------------------------------------


def _really(*requirements: str) -> dict[str, PythonPackage]:
    packages = resolve_python(
        requirements, python_version="3.13", environ=os.environ, ca_bundle=None, cwd=None
    )
    return {package.name: package for package in packages}


def test_small_packages_of_the_users_real_index() -> None:
    packages = _really("six", "idna")
    assert set(packages) == {"six", "idna"}
    assert all(package.hashes for package in packages.values())


@pytest.mark.slow
def test_jupyterlab_of_the_users_real_index_without_downloading_an_interpreter() -> None:
    packages = _really("jupyterlab>=4.4", "jupyter-server>=2.20")
    assert {"jupyterlab", "jupyter-server", "tornado", "ipykernel"} <= set(packages)
    assert "appnope" not in packages  # macOS only
    assert "colorama" not in packages  # Windows only
