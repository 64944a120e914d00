"""Variables, JupyterLab's settings and files of an image definition."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from jupbox import render
from jupbox.errors import ConfigError, LockError
from jupbox.lock import FileLock, Lock, dump_lock, load_lock
from jupbox.project import (
    CopiedFile,
    Foreign,
    Project,
    definition_label,
    parse_project,
    read_definition,
)
from jupbox.repository import GitReference, GitSource
from tests.unit.test_foreign import OURS, URL
from tests.unit.test_lock import IMAGE
from tests.unit.test_project import SHIPPED

THEMES = "@jupyterlab/apputils-extension:themes"
A = "a" * 40


@dataclass
class Folder:
    """`project.Outside` with one repository and hashes of files, by their paths."""

    theirs: str = ""
    hashes: Mapping[str, str] = field(default_factory=dict)

    def definitions(self, reference: GitReference, *, image: str) -> Foreign:
        return Foreign(text=self.theirs, commit=A)

    def file(self, path: str, *, target: str, source: GitSource | None) -> CopiedFile | None:
        if path not in self.hashes:
            return None
        return CopiedFile(
            target=target, path=path, sha256=self.hashes[path] * 64, source=source,
            executable=path.startswith("bin/"),
        )  # fmt: skip

    def text(self, path: str, *, source: GitSource) -> str | None:
        return None


def parse(text: str, outside: Folder | None = None) -> Project:
    return parse_project(
        text,
        source="jupbox.toml",
        root=Path("/team/project"),
        user_text=None,
        user_source="/home/me/.config/jupbox/config.toml",
        shipped=SHIPPED,
        outside=outside,
    )


CHAIN = f"""
[images.base]
extends = "minimal"
env = {{ A = "base", B = "base" }}
settings."{THEMES}" = {{ theme = "JupyterLab Dark", adaptive-theme = false }}
files = {{ "/opt/a.csv" = "data/a.csv", "/opt/b.csv" = "data/b.csv" }}
[images.own]
extends = "base"
env = {{ B = "own" }}
settings = {{ "{THEMES}".theme = "JupyterLab Light", "x:y".z = [1, {{ deep = true }}] }}
files = {{ "/opt/b.csv" = "data/c.csv", "/usr/local/bin/tool" = "bin/tool" }}
"""
HASHES = {"data/a.csv": "1", "data/b.csv": "2", "data/c.csv": "3", "bin/tool": "4"}


def test_they_come_along_the_chain_and_the_nearest_holds() -> None:
    image = parse(CHAIN, Folder(hashes=HASHES)).image("own")
    assert image.env == (("A", "base"), ("B", "own"))
    assert image.settings == (
        (THEMES, '{"adaptive-theme": false, "theme": "JupyterLab Light"}'),
        ("x:y", '{"z": [1, {"deep": true}]}'),
    )
    assert [(f.target, f.path, f.sha256[0], f.executable) for f in image.files] == [
        ("/opt/a.csv", "data/a.csv", "1", False),
        ("/opt/b.csv", "data/c.csv", "3", False),
        ("/usr/local/bin/tool", "bin/tool", "4", True),
    ]


def test_a_label_holds_them() -> None:
    image = parse(CHAIN, Folder(hashes=HASHES)).image("own")
    again = read_definition(definition_label(image))
    assert (again, again.digest) == (image, image.digest)


PLAIN = '[images.own]\nextends = "minimal"\n'


@pytest.mark.parametrize(
    "addition",
    ['env.A = "1"', 'settings."a:b".c = 1', 'files = { "/opt/a.csv" = "data/a.csv" }'],
)
def test_each_belongs_to_the_digest(addition: str) -> None:
    folder = Folder(hashes=HASHES)
    plain, more = (parse(PLAIN + text, folder).image("own").digest for text in ("", addition))
    assert plain != more


def test_a_files_content_and_place_decide_and_not_its_name_here() -> None:
    def digest(path: str, content: str, target: str = "/opt/a") -> str:
        text = f'{PLAIN}files = {{ "{target}" = "{path}" }}'
        return parse(text, Folder(hashes={path: content})).image("own").digest

    assert digest("a", "1") == digest("b", "1")
    found = {digest("a", "1"), digest("a", "2"), digest("bin/a", "1"), digest("a", "1", "/opt/b")}
    assert len(found) == 4


def test_files_of_another_repository_are_that_repositorys() -> None:
    theirs = '[images.datasci]\nextends = "minimal"\nfiles = { "/opt/a" = "data/a.csv" }\n'
    ours = f'{OURS}files = {{ "/opt/b" = "data/a.csv" }}\n'
    image = parse(ours, Folder(theirs=theirs, hashes=HASHES)).image("datasci")
    source = GitSource(url=URL, revision="main", commit=A)
    assert [(f.target, f.source) for f in image.files] == [("/opt/a", source), ("/opt/b", None)]


def test_a_missing_file_is_named_when_its_image_is_used() -> None:
    without = {path: value for path, value in HASHES.items() if path != "data/c.csv"}
    project = parse(CHAIN, Folder(hashes=without))
    assert "own" in project.images
    with pytest.raises(ConfigError) as caught:
        project.image("own")
    assert caught.value.message == (
        'jupbox.toml:11: images.own.files."/opt/b.csv" names data/c.csv, and that is no file of '
        "the project."
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("env = { A = 1 }", "images.own.env.A must be a text, not 1"),
        ('env = { "A-B" = "1" }', "is no name of a variable"),
        ('env = { PATH = "/x" }', "is set by jupbox itself"),
        ('env = { A = "1\\nRUN x" }', "must be a text on one line"),
        (
            "files = 1",
            "files must be a table of paths in the image and files of the project, not 1",
        ),
        (
            'files = { "/opt/a" = 1 }',
            'files."/opt/a" must be a path of the project\'s folder, not 1',
        ),
        ('files = { "/opt/a" = "../a" }', "with no . and .. in it"),
        ('files = { "/opt/a" = ".git/hooks/x" }', "must be no file of git's"),
        ('files = { "/opt/a" = "jupbox.lock" }', "must be no file of git's or of jupbox's own"),
        ('files = { "/opt/a" = "/etc/shadow" }', "must be a path of the project's folder"),
        ('files = { "opt/a" = "a" }', "must be an absolute path"),
        ('files = { "/opt/../etc/x" = "a" }', "with no . and .. in it"),
        ('files = { "/opt//x" = "a" }', "with no . and .. in it"),
        ('files = { "/opt/x/" = "a" }', "with no . and .. in it"),
        ('files = { "/opt/x\\nRUN" = "a" }', "must be an absolute path"),
        ('files = { "/home/ada/x" = "a" }', "is a place where the running server has something"),
        ('files = { "/tmp/x" = "a" }', "is a place where the running server has something"),
        ('files = { "/opt/jupbox/server/x.py" = "a" }', "is a place where the running server has"),
        (
            'files = { "/opt/env/share/jupyter/lab/settings/overrides.json" = "a" }',
            "is what `settings` writes",
        ),
        ('settings = "dark"', "settings must be a table of JupyterLab's plugins"),
        ("settings = { themes = { a = 1 } }", "settings.themes is no id of a JupyterLab plugin"),
        ('settings = { "a:b" = 1 }', 'settings."a:b" must be a table of settings, not 1'),
        ('settings = { "a:b" = { c = 2020-01-01 } }', "must hold texts, numbers, true, false"),
        ('settings = { "a:b" = { c = nan } }', "must hold texts, numbers, true, false"),
    ],
)
def test_bad_input_is_said_with_its_key(line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(PLAIN + line)
    assert caught.value.message.startswith("jupbox.toml:3: images.own.")
    assert message in caught.value.message
    assert caught.value.remedy.startswith("For example: ")


def test_a_file_beside_such_a_place_is_fine() -> None:
    text = f'{PLAIN}files = {{ "/homes/a" = "data/a.csv", "/opt/jupbox2" = "data/a.csv" }}'
    assert len(parse(text, Folder(hashes=HASHES)).image("own").files) == 2


# --- the lock ---------------------------------------------------------------------------------


LOCKED = replace(
    IMAGE,
    env=(("A", 'a "b" $C \\ d'),),
    settings=((THEMES, '{"theme": "é"}'),),
    files=(
        FileLock(target="/opt/env/a b.csv", sha256="1" * 64, mode="0644"),
        FileLock(target="/usr/local/bin/tool", sha256="2" * 64, mode="0755"),
    ),
)


def test_a_lock_holds_them_one_a_line_and_without_them_is_what_it_was() -> None:
    text = dump_lock(Lock().with_image(LOCKED))
    assert load_lock(text, source="x").images["minimal"] == LOCKED
    assert sum(line.startswith(("    { target", "    { plugin")) for line in text.splitlines()) == 3
    assert tomllib.loads(dump_lock(Lock().with_image(IMAGE)))["images"]["minimal"].keys() == {
        "definition", "system", "recipe", "epoch", "uv", "python", "platforms",
    }  # fmt: skip


@pytest.mark.parametrize("part", ["env", "settings", "files"])
def test_each_belongs_to_the_locks_digest(part: str) -> None:
    assert replace(LOCKED, **{part: ()}).digest() != LOCKED.digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "A"', 'name = "A B"'),
        ('name = "A"', 'name = "PATH"'),
        ("$C", "\\nRUN"),
        ("/opt/env/a b.csv", "/opt/../a"),
        ("/opt/env/a b.csv", "/etc/passwd"),
        ('"0755"', '"4755"'),
        ("1" * 64, "1" * 63),
        (f'"{THEMES}"', '"themes"'),
        ('é\\"}', "é"),
    ],
)
def test_a_lock_is_checked_when_it_is_read(old: str, new: str) -> None:
    text = dump_lock(Lock().with_image(LOCKED))
    assert old in text
    with pytest.raises(LockError):
        load_lock(text.replace(old, new), source="jupbox.lock")


# --- the image --------------------------------------------------------------------------------


CONTENTS = {"/opt/env/a b.csv": b"a,b\n", "/usr/local/bin/tool": b"#!/bin/sh\n"}


def test_the_context_has_files_by_mode_and_settings_where_jupyterlab_looks() -> None:
    context = render.environment_context(
        LOCKED, architecture="amd64", base="base:tag", files=CONTENTS
    )
    of_step = {name: text for name, text in context.items() if name.startswith("build/extra/")}
    overrides = of_step.pop("build/extra/0644/opt/env/share/jupyter/lab/settings/overrides.json")
    assert json.loads(overrides) == {THEMES: {"theme": "é"}}
    del of_step["build/extra/extra.sh"], of_step["build/extra/settle.sh"]
    assert of_step == {
        "build/extra/0644/opt/env/a b.csv": b"a,b\n",
        "build/extra/0755/usr/local/bin/tool": b"#!/bin/sh\n",
    }
    lines = context["Dockerfile"].decode().splitlines()
    assert lines[-2:] == ['ENV A="a \\"b\\" \\$C \\\\ d"', 'CMD ["/bin/bash"]']
    assert f"    sh /build/extra.sh {LOCKED.epoch}" in lines


def test_without_them_the_context_is_what_it_was() -> None:
    context = render.environment_context(IMAGE, architecture="amd64", base="base:tag")
    assert not [name for name in context if "extra" in name]
    assert "extra" not in context["Dockerfile"].decode()


@pytest.mark.parametrize("value", ["", "a b", 'a"b', "a\\", "$HOME ${X}", "'", "#", "é😀", "a\tb"])
def test_a_value_stands_for_itself_in_a_dockerfile(value: str) -> None:
    text = render.docker_string(value)
    assert (text[0], text[-1]) == ('"', '"')
    inner = text[1:-1]
    assert (
        inner.replace("\\\\", "\0").replace('\\"', '"').replace("\\$", "$").replace("\0", "\\")
        == value
    )


def test_a_variable_cannot_add_an_instruction() -> None:
    lock = replace(LOCKED, env=(("A", "x\nRUN y"),))
    with pytest.raises(ValueError, match="line break"):
        render.environment_context(lock, architecture="amd64", base="b", files=CONTENTS)
