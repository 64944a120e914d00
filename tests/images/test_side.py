"""What is installed beside the image: the environment, its kernels, and how far it has moved."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from jupbox_server.drift import Drift, clashes
from jupbox_server.environment import apply, shell_lines
from jupbox_server.overlay import Side, ensure, sides, usable
from jupbox_server.packages import installed, normalised, redundant, remove
from jupbox_server.side import install, prepare

from tests.images.conftest import SERVER
from tests.images.installed import PYTHON, environment, made_side, put, wheel


@pytest.fixture
def side(tmp_path: Path) -> Side:
    return made_side(tmp_path)


def python(side: Side, code: str) -> str:
    """What the side's Python prints."""
    command = [side.interpreter, "-P", "-c", code]
    clean = {"PATH": os.environ["PATH"]}
    return subprocess.check_output(command, text=True, env=clean, timeout=60).strip()


def everything(folder: Path) -> dict[Path, tuple[int, int]]:
    """Each file below `folder`, and when it was made."""
    return {
        path: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in sorted(folder.rglob("*"))
    }


def test_a_side_package_comes_before_the_images_and_gone_brings_it_back(side: Side) -> None:
    put(side.image_site, "tool", "1.0")
    assert python(side, "import tool; print(tool.VERSION)") == "1.0"
    put(side.site, "tool", "2.0")
    assert python(side, "import tool; print(tool.VERSION)") == "2.0"
    assert python(side, "from importlib.metadata import version as v; print(v('tool'))") == "2.0"
    remove(installed(side.site)["tool"], side)
    assert python(side, "import tool; print(tool.VERSION)") == "1.0"


def test_a_side_python_knows_itself_as_an_environment(side: Side) -> None:
    assert python(side, "import sys; print(sys.prefix)") == str(side.path)
    assert python(side, "import sysconfig as s; print(s.get_path('purelib'))") == str(side.site)
    code = "from jupbox_server.overlay import image_root; print(image_root())"
    given = {"PYTHONPATH": str(SERVER)}
    answer = subprocess.check_output([side.interpreter, "-P", "-c", code], text=True, env=given)
    assert answer.strip() == str(side.image)


def test_what_is_right_is_not_written_again(side: Side) -> None:
    before = everything(side.path)
    ensure(side)
    assert everything(side.path) == before


@pytest.mark.parametrize("where", ["pyvenv.cfg", "bin/pip", "pth", "bin/python", "bin/python3"])
@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_half_written_side_is_mended(side: Side, where: str, how: str) -> None:
    path = side.site / "jupbox-image.pth" if where == "pth" else side.path / where
    right = path.read_text() if where in {"pyvenv.cfg", "pth", "bin/pip"} else path.readlink()
    path.unlink()
    if how == "empty":
        path.touch()
    assert usable(side) is (where in {"bin/pip", "bin/python3"})
    ensure(side)
    assert usable(side)
    assert (path.readlink() if path.is_symlink() else path.read_text()) == right
    assert not list(side.path.rglob(".*"))


def test_a_pip_of_the_users_keeps_its_script(side: Side) -> None:
    (side.bin / "pip").write_text("#!/usr/bin/python3\n")
    ensure(side)
    assert (side.bin / "pip").read_text() == "#!/usr/bin/python3\n"


@pytest.fixture
def kernels(tmp_path: Path) -> Path:
    """A folder of further kernels, with what is none between them."""
    folder = tmp_path / "kernels"
    environment(folder / "torch")
    environment(folder / "default")  # the name is taken
    (folder / "empty").mkdir()
    return folder


def spec(root: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((root / "kernels" / name / "kernel.json").read_text())
    return found


def test_each_environment_has_its_kernel_run_by_its_side(tmp_path: Path, kernels: Path) -> None:
    image = environment(tmp_path / "image")
    own = image / "share/jupyter/kernels/torch"
    own.mkdir(parents=True)
    said = {"argv": ["python", "-Xx", "{connection_file}"], "display_name": "Torch", "metadata": {}}
    (own / "kernel.json").write_text(json.dumps({**said, "env": {"A": "b"}}))
    (own / "logo-svg.svg").write_text("<svg/>")
    default, torch = prepare(tmp_path / "home", image=image, kernels=kernels)
    root = default.root / "jupyter"
    assert (default.path.name, torch.path.name) == (f"default-{PYTHON}", f"torch-{PYTHON}")
    assert sorted(path.name for path in (root / "kernels").iterdir()) == ["python3", "torch"]
    assert spec(root, "python3")["argv"] == [
        str(default.interpreter), "-m", "ipykernel_launcher", "-f", "{connection_file}",
    ]  # fmt: skip
    assert spec(root, "torch") == {
        "argv": [str(torch.interpreter), "-Xx", "{connection_file}"],
        "display_name": "Torch",
        "language": "python",
        "metadata": {},
        "env": {
            "A": "b",
            "PATH": f"{torch.bin}:{torch.image}/bin:${{PATH}}",
            "VIRTUAL_ENV": str(torch.path),
        },
    }
    assert (root / "kernels/torch/logo-svg.svg").read_text() == "<svg/>"
    before = everything(tmp_path / "home")
    prepare(tmp_path / "home", image=image, kernels=kernels)
    assert everything(tmp_path / "home") == before
    shutil.rmtree(kernels)
    prepare(tmp_path / "home", image=image, kernels=kernels)
    assert [path.name for path in (root / "kernels").iterdir()] == ["python3"]


def test_a_broken_home_costs_the_side_and_not_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = environment(tmp_path / "image")
    home = tmp_path / "home"
    home.write_text("not a folder")
    assert prepare(home, image=image, kernels=tmp_path / "none") == ()
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("jupbox: nothing can be installed beside the image: ")
    environ = {"HOME": str(home), "PATH": "/usr/bin"}
    apply(environ)
    assert "VIRTUAL_ENV" not in environ and "JUPYTER_PATH" not in environ


def report(side: Side) -> dict[str, object]:
    home = side.root.parents[3]
    found = Drift(home, image=side.image, kernels=home / "none").report()
    (one,) = found["envs"]
    assert found["leftover"] == []
    return dict(one)


def test_the_report_names_what_is_on_the_side_and_what_the_image_has(side: Side) -> None:
    put(side.image_site, "Some_Tool", "1.0")
    put(side.image_site, "other", "1.0")
    assert (report(side)["packages"], report(side)["clashes"]) == ([], [])
    put(side.site, "some.tool", "2.0")
    put(side.site, "extra", "0.1")
    (side.site / "~alf-1.0.dist-info").mkdir()
    (side.site / "half-1.0.dist-info").mkdir()
    assert report(side) == {
        "env": "default",
        "python": PYTHON,
        "path": str(side.path),
        "packages": [
            {"name": "extra", "version": "0.1", "image": None},
            {"name": "some.tool", "version": "2.0", "image": "1.0"},
        ],
        "clashes": [],
    }


def test_the_report_follows_each_install(side: Side) -> None:
    home = side.root.parents[3]
    drift = Drift(home, image=side.image, kernels=home / "none")
    assert drift.report()["envs"][0]["packages"] == []
    put(side.site, "extra", "0.1")
    assert [one["name"] for one in drift.report()["envs"][0]["packages"]] == ["extra"]
    remove(installed(side.site)["extra"], side)
    assert drift.report()["envs"][0]["packages"] == []


def test_sides_of_another_python_or_kernel_are_left_over_while_they_hold_packages(
    side: Side,
) -> None:
    old = dataclasses.replace(side, python="3.9")
    gone = dataclasses.replace(side, name="gone")
    for one in (old, gone):
        ensure(one)
    put(old.site, "extra", "0.1")
    home = side.root.parents[3]
    drift = Drift(home, image=side.image, kernels=home / "none")
    assert drift.report()["leftover"] == [{"path": str(old.path), "packages": 1}]


@pytest.mark.parametrize(
    ("image", "aside", "expected"),
    [
        pytest.param(
            {"pandas": ("2.0", ["numpy<2"]), "numpy": ("1.26", [])}, {"numpy": ("2.1", [])},
            ["pandas 2.0 in the image needs numpy<2, but finds numpy 2.1 on the side, "
             "which hides the image's 1.26"], id="hidden version"),
        pytest.param(
            {"numpy": ("1.26", [])}, {"fast": ("1.0", ["NumPy>=2"])},
            ["fast 1.0 on the side needs NumPy>=2, but finds numpy 1.26 in the image"],
            id="image too old"),
        pytest.param(
            {}, {"fast": ("1.0", ["gone>=2"])},
            ["fast 1.0 on the side needs gone>=2, which is not installed"], id="missing"),
        pytest.param(
            {}, {"fast": ("1.0", ["slow==1"]), "slow": ("2.0", [])},
            ["fast 1.0 on the side needs slow==1, but finds slow 2.0 on the side"], id="both"),
        pytest.param(
            {"a": ("1.0", ["b>1", "none"]), "b": ("1.0", [])}, {"fast": ("1.0", [])},
            [], id="the image's own faults"),
        pytest.param(
            {"a": ("1.0", ["b<2"]), "b": ("1.0", [])}, {"a": ("2.0", ["b>=1"])},
            [], id="hidden packages need nothing"),
        pytest.param(
            {}, {"fast": ("1.0", ["x; python_version < '3'", "y; extra == 'test'", "!?"])},
            [], id="markers and extras"),
        pytest.param(
            {"a": ("1.0", ["b>=1"])}, {"b": ("2.0rc1", [])}, [], id="a preview is no fault"),
    ],
)  # fmt: skip
def test_a_clash_is_one_sentence_with_both_names(
    side: Side,
    image: dict[str, tuple[str, list[str]]],
    aside: dict[str, tuple[str, list[str]]],
    expected: list[str],
) -> None:
    for site, packages in ((side.image_site, image), (side.site, aside)):
        for name, (version, requires) in packages.items():
            put(site, name, version, requires)
    assert list(clashes(side)) == expected


def test_what_the_image_has_now_goes_from_the_side_at_the_start(
    side: Side, capsys: pytest.CaptureFixture[str]
) -> None:
    put(side.image_site, "same", "1.0")
    put(side.image_site, "newer", "1.0")
    put(side.site, "newer", "2.0")
    put(side.site, "alone", "1.0")
    before = set(side.path.rglob("*"))
    info = put(side.site, "same", "1.0")
    package = side.site / "samepackage"
    (package / "__pycache__").mkdir(parents=True)
    (package / "a.py").touch()
    (package / f"__pycache__/a.cpython-{PYTHON.replace('.', '')}.pyc").touch()
    (side.bin / "same").touch()
    with (info / "RECORD").open("a") as record:
        record.write("samepackage/a.py,,\n../../../bin/same,,\n")
    prepare(side.root.parents[3], image=side.image, kernels=side.root / "none")
    kernels = side.root / "jupyter"
    assert set(side.path.rglob("*")) == before
    assert kernels.is_dir()
    assert "same 1.0 is in the image now" in capsys.readouterr().err


def test_the_users_own_build_of_the_same_version_stays(side: Side) -> None:
    put(side.image_site, "mine", "1.0")
    info = put(side.site, "mine", "1.0")
    assert [package.key for package in redundant(side)] == ["mine"]
    origin = {"url": "file:///home/me/mine", "dir_info": {"editable": True}}
    (info / "direct_url.json").write_text(json.dumps(origin))
    assert redundant(side) == ()


def test_a_removal_stays_on_the_side_and_spares_others_files(side: Side, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (side.site / "linked").symlink_to(outside)
    (side.site / "shared.py").touch()
    with (put(side.site, "other", "1.0") / "RECORD").open("a") as record:
        record.write("shared.py,,\n")
    up = os.path.relpath(outside, side.site)
    with (put(side.site, "same", "1.0") / "RECORD").open("a") as record:
        record.write(f"shared.py,,\n{outside}/precious,,\nlinked/precious,,\n{up}/precious,,\n")
    remove(installed(side.site)["same"], side)
    assert (outside / "precious").exists()
    assert (side.site / "shared.py").exists()
    assert not (side.site / "same.py").exists()
    assert set(installed(side.site)) == {"other"}


def test_names_are_compared_as_indexes_compare_them() -> None:
    assert normalised("Some_.Tool") == "some-tool"


@pytest.fixture
def real(tmp_path: Path) -> Side:
    """The side of the environment that runs the tests, whose pip it uses."""
    side = sides(tmp_path / "home", kernels=tmp_path / "none")[0]
    ensure(side)
    return side


def test_install_takes_exact_versions_with_hashes_only(
    real: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = wheel(tmp_path, "jupboxtiny", "1.0", ["needs-nothing-that-exists"])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert "hash" in str(install(real, "jupboxtiny==1.0\n")).lower()
    wrong = install(real, f"jupboxtiny==1.0 --hash=sha256:{'0' * 64}\n")
    assert wrong and digest in wrong
    assert installed(real.site) == {}
    assert install(real, f"jupboxtiny==1.0 --hash=sha256:{digest}\n") is None
    assert set(installed(real.site)) == {"jupboxtiny"}


def test_an_upgrade_of_an_image_package_leaves_the_images_alone(real: Side, tmp_path: Path) -> None:
    before = (real.image_site / "packaging" / "__init__.py").read_bytes()
    wheel(tmp_path, "packaging", "9999")
    command = [real.bin / "pip", "install", "-q", "--no-index", "--find-links", tmp_path]
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home")}
    subprocess.run([*command, "-U", "packaging"], env=environ, check=True, capture_output=True)
    assert installed(real.site)["packaging"].version == "9999"
    assert (real.image_site / "packaging" / "__init__.py").read_bytes() == before
    remove = [real.bin / "pip3", "uninstall", "-q", "-y", "packaging"]
    subprocess.run(remove, env=environ, check=True, capture_output=True)
    assert installed(real.site) == {}
    code = "import packaging; print(packaging.__file__)"
    assert python(real, code) == str(real.image_site / "packaging" / "__init__.py")


def test_kernels_and_terminals_find_the_side_first(real: Side, tmp_path: Path) -> None:
    home = tmp_path / "home"
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin", "JUPYTER_PATH": "/mine"}
    apply(environ)
    assert environ["PATH"] == f"{real.bin}:{real.image}/bin:/usr/bin:/bin"
    assert environ["VIRTUAL_ENV"] == str(real.path)
    assert environ["JUPYTER_PATH"].split(":") == [
        f"{real.root}/jupyter", f"{real.path}/share/jupyter", f"{home}/.local/share/jupyter",
        f"{real.image}/share/jupyter", "/mine",
    ]  # fmt: skip
    again = dict(environ)
    apply(again)
    assert again == environ
    (real.path / "pyvenv.cfg").unlink()
    apply(environ)
    assert "VIRTUAL_ENV" not in environ


def test_the_networks_authorities_are_trusted_while_they_are_there(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "PATH": "/bin", "CURL_CA_BUNDLE": "/mine.pem"}
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO")
    apply(environ)
    assert not set(names) & set(environ)
    path = tmp_path / ".config/jupbox/ca.pem"
    path.parent.mkdir(parents=True)
    path.touch()
    apply(environ)
    assert {environ[name] for name in names} == {str(path)}
    assert environ["CURL_CA_BUNDLE"] == "/mine.pem"
    path.unlink()
    apply(environ)
    assert not set(names) & set(environ)


def test_a_login_shell_gets_what_the_server_gives(real: Side, tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/a b"}
    lines = shell_lines(dict(environ))
    command = ["sh", "-c", f'{lines}printf "%s|%s" "$PATH" "$VIRTUAL_ENV"']
    got = subprocess.check_output(command, env=environ, text=True)
    assert got == f"{real.bin}:{real.image}/bin:/usr/bin:/a b|{real.path}"
