"""Definitions of other repositories: how they come together, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from jupbox.errors import ConfigError, JupboxError, RepositoryError, UnknownNameError
from jupbox.lock import Lock, dump_lock, is_stale, load_lock
from jupbox.project import (
    CopiedFile,
    Foreign,
    Layer,
    Project,
    definition_label,
    parse_project,
    read_definition,
)
from jupbox.repository import GitReference, GitSource
from tests.unit.test_lock import IMAGE
from tests.unit.test_project import SHIPPED

URL = "https://host.example.org/team/common"
A, B = "a" * 40, "b" * 40
OURS = f'[images.datasci]\nextends = "git+{URL}@main#images.datasci"\npython = ["ours"]\n'
THEIRS = """
[images.core]
extends = "minimal"
apt = ["ffmpeg"]
[images.datasci]
extends = "core"
python = ["numpy"]
base = "debian:bookworm-slim"
kernels.old.python = ["pandas<2"]
"""


@dataclass
class Elsewhere:
    """`project.Outside` with texts instead of repositories."""

    texts: Mapping[str, str]
    commit: str = A
    asked: list[tuple[str, str]] = field(default_factory=list)
    files: Mapping[str, str] = field(default_factory=dict)

    def definitions(self, reference: GitReference, *, image: str) -> Foreign:
        word = f"{reference.url}@{reference.revision}"
        self.asked.append((word, image))
        if word not in self.texts:
            raise RepositoryError(f"{word} is out of reach.", remedy="Connect.")
        return Foreign(text=self.texts[word], commit=self.commit)

    def file(self, path: str, *, target: str, source: GitSource | None) -> CopiedFile | None:
        return None

    def text(self, path: str, *, source: GitSource) -> str | None:
        return self.files.get(f"{source.url}/{path}")


def parse(text: str, *theirs: str, commit: str = A) -> Project:
    texts = dict(zip((f"{URL}@main", f"{URL}-2@main"), theirs, strict=False))
    return parse_with(text, Elsewhere(texts=texts, commit=commit))


def parse_with(text: str, elsewhere: Elsewhere | None) -> Project:
    return parse_project(
        text,
        source="jupbox.toml",
        root=Path("/team/project"),
        user_text=None,
        user_source="/home/me/.config/jupbox/config.toml",
        shipped=SHIPPED,
        outside=elsewhere,
    )


def failure(text: str, *theirs: str) -> JupboxError:
    with pytest.raises(JupboxError) as caught:
        _ = parse(text, *theirs).images["datasci"]
    return caught.value


def test_a_chain_goes_on_in_the_other_repository_with_its_own_names() -> None:
    ours = f'{OURS}[images.core]\npython = ["not this one"]\nextends = "minimal"\n'
    image = parse(ours, THEIRS).image("datasci")
    assert image.layers == (
        Layer(
            name="minimal", python=("jupyterlab", "ipykernel"), apt=("git", "less"), shipped=True
        ),
        Layer(name="core", python=(), apt=("ffmpeg",)),
        Layer(name="common-datasci", python=("numpy",), apt=()),
        Layer(name="datasci", python=("ours",), apt=()),
    )
    assert (image.base, [kernel.name for kernel in image.kernels]) == (
        "debian:bookworm-slim",
        ["old"],
    )
    assert image.sources == (GitSource(url=URL, revision="main", commit=A),)


def test_a_repository_may_lead_to_a_further_one() -> None:
    theirs = f'[images.datasci]\nextends = "git+{URL}-2@main#images.x"\n'
    further = '[images.x]\nextends = "scipy"\n[images.minimal]\npython = ["jupyterlab", "lean"]\n'
    image = parse(OURS, theirs, further).image("datasci")
    assert [layer.name for layer in image.layers] == [
        "minimal",
        "scipy",
        "x",
        "common-datasci",
        "datasci",
    ]
    assert "lean" in image.python  # `minimal` is what that repository calls so
    assert [source.url for source in image.sources] == [f"{URL}-2", URL]


def test_python_of_another_repository_names_files_of_that_repository() -> None:
    theirs = '[images.datasci]\nextends = "minimal"\npython = ["requirements.txt"]\n'
    files = {f"{URL}/requirements.txt": "numpy>=2\n"}
    elsewhere = Elsewhere(texts={f"{URL}@main": theirs}, files=files)
    assert "numpy>=2" in parse_with(OURS, elsewhere).image("datasci").python


def test_what_needs_no_repository_looks_at_none() -> None:
    elsewhere = Elsewhere(texts={})
    project = parse_with(
        f'{OURS}[images.own]\nextends = "minimal"\n[boxes.b]\nimage="own"\n', elsewhere
    )
    assert (project.box("b").image, project.image("own").name) == ("own", "own")
    assert set(project.shipped_images) == {"minimal", "scipy"}
    assert "datasci" in project.images
    assert elsewhere.asked == []
    with pytest.raises(RepositoryError):
        project.image("datasci")
    assert elsewhere.asked == [(f"{URL}@main", "datasci")]


def test_an_image_is_looked_up_once() -> None:
    elsewhere = Elsewhere(texts={f"{URL}@main": THEIRS})
    project = parse_with(OURS, elsewhere)
    assert project.image("datasci") is project.image("datasci")
    assert len(elsewhere.asked) == 1


def test_a_definition_that_was_read_back_takes_its_place_without_a_look_at_others() -> None:
    elsewhere = Elsewhere(texts={f"{URL}@main": THEIRS})
    read = parse(OURS, THEIRS).image("datasci")
    project = parse_with(OURS, elsewhere).with_image(replace(read, name="minimal"))
    assert (project.image("minimal").python, elsewhere.asked) == (read.python, [])
    assert "minimal" not in project.shipped


def test_a_commit_that_changes_no_value_makes_no_lock_stale() -> None:
    before, after = (parse(OURS, THEIRS, commit=commit).image("datasci") for commit in (A, B))
    lock = replace(IMAGE, definition=before.digest, sources=before.sources)
    assert before.sources != after.sources
    assert not is_stale(lock, after)
    moved = parse(OURS, THEIRS.replace("numpy", "numpy<2")).image("datasci")
    assert is_stale(lock, moved)


def test_a_revision_that_the_lock_does_not_pin_makes_it_stale() -> None:
    before = parse(OURS, THEIRS).image("datasci")
    lock = replace(IMAGE, definition=before.digest, sources=())
    assert is_stale(lock, before)
    assert not is_stale(replace(lock, sources=before.sources), before)


def test_the_digest_is_that_of_the_same_values_written_here() -> None:
    here = THEIRS.replace("images.datasci", "images.theirs")
    here += '[images.datasci]\nextends = "theirs"\npython = ["ours"]\n'
    assert parse(here).image("datasci").digest == parse(OURS, THEIRS).image("datasci").digest


def test_a_label_holds_all_of_it_so_that_adoption_needs_no_repository() -> None:
    image = parse(OURS, THEIRS).image("datasci")
    label = definition_label(image)
    assert URL not in label
    again = read_definition(label)
    assert (again, again.digest, again.sources) == (image, image.digest, ())
    lock = replace(IMAGE, definition=image.digest, sources=image.sources)
    assert not is_stale(lock, again)


def test_names_that_would_meet_are_told_apart() -> None:
    theirs = f"""
        [images.datasci]
        extends = "git+{URL}-2@main#images.datasci"
        [images.common-2-datasci]
        extends = "minimal"
    """
    further = f'[images.datasci]\nextends = "git+{URL}@main#images.common-2-datasci"\n'
    image = parse(OURS, theirs, further).image("datasci")
    names = [layer.name for layer in image.layers]
    assert names == [
        "minimal",
        "common-2-datasci",
        "common-2-datasci-2",
        "common-datasci",
        "datasci",
    ]
    assert len(json.loads(definition_label(image))["images"]) == len(names)


# --- what is refused --------------------------------------------------------------------------


def test_a_definition_that_extends_itself_over_repositories_is_an_error() -> None:
    theirs = f'[images.datasci]\nextends = "git+{URL}-2@main#images.x"\n'
    further = f'[images.x]\nextends = "git+{URL}@main#images.datasci"\n'
    error = failure(OURS, theirs, further)
    assert isinstance(error, ConfigError)
    first, second = f"git+{URL}@main#images.datasci", f"git+{URL}-2@main#images.x"
    assert error.message == (
        f"{URL}-2@main:jupbox.toml:2: images.x.extends leads back to itself: "
        f"{first} -> {second} -> {first}."
    )


@pytest.mark.parametrize(
    ("theirs", "remedy"),
    [
        ("[images.datasc]\nextends='minimal'", "Did you mean `datasc`? Its images: datasc."),
        ("[boxes.x]", "Its jupbox.toml defines no image at all; look at the revision."),
    ],
)
def test_an_image_that_the_repository_has_not_is_an_unknown_name(theirs: str, remedy: str) -> None:
    error = failure(OURS, theirs)
    assert isinstance(error, UnknownNameError)
    assert error.message.startswith("jupbox.toml:2: images.datasci.extends names git+https://")
    assert error.remedy == remedy


def test_what_is_wrong_in_the_other_file_is_said_with_its_place() -> None:
    error = failure(OURS, "[images.datasci]\nextend = 'minimal'")
    assert error.message.startswith(f"{URL}@main:jupbox.toml:2: images.datasci.extend is not a key")
    error = failure(OURS, "[images.datasci]\nextends = 'own-only'")
    assert "images.datasci.extends names 'own-only'" in error.message


def test_a_shipped_image_cannot_extend_itself_by_way_of_a_repository() -> None:
    ours = OURS.replace("images.datasci]", "images.minimal]")
    with pytest.raises(ConfigError, match="extends the image minimal that ships") as caught:
        parse(ours, THEIRS).image("minimal")
    assert caught.value.remedy == "Give it another name."


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (f"git+{URL}#images.x", "must be the name of another image, or one of a repository"),
        (f"git+{URL}@--upload-pack=x#images.x", "names no revision that git could have"),
        ("git+https://ada:k7mw@host/r@main#images.x", "must hold no credentials"),
        ("No Name", "must be the name of another image"),
    ],
)
def test_what_names_no_definition_is_refused_with_its_line(value: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f'[images.datasci]\nextends = "{value}"')
    assert caught.value.message.startswith(f"jupbox.toml:2: images.datasci.extends {what}")
    assert "k7mw" not in caught.value.message + caught.value.remedy


# --- the lock ---------------------------------------------------------------------------------


def test_a_lock_holds_its_sources_one_a_line() -> None:
    sources = (
        GitSource(url=f"{URL}-2", revision="v1", commit="c" * 64),
        GitSource(url=URL, revision="main", commit=A),
    )
    lock = Lock().with_image(replace(IMAGE, sources=sources))
    text = dump_lock(lock)
    assert f'    {{ url = "{URL}", revision = "main", commit = "{A}" }},\n' in text
    assert set(load_lock(text, source="x").images["minimal"].sources) == set(sources)
    assert dump_lock(load_lock(text, source="x")) == text


def test_a_lock_without_sources_is_what_it_was() -> None:
    assert "sources" not in dump_lock(Lock().with_image(IMAGE))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ddd", "dd"),
        ('ddd"', 'ddd\\n"'),
        ('"main"', '"--x"'),
        ("https://", "ext::"),
        ("//", "//u:p@"),
    ],
)
def test_a_source_of_a_lock_is_checked_when_it_is_read(old: str, new: str) -> None:
    source = GitSource(url=URL, revision="main", commit="d" * 40)
    text = dump_lock(Lock().with_image(replace(IMAGE, sources=(source,)))).replace(old, new)
    with pytest.raises(JupboxError, match=r"images\.minimal\.sources\[0\]"):
        load_lock(text, source="jupbox.lock")
