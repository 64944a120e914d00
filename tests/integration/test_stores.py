"""The containerd image store, and a base that only the box can make."""

from __future__ import annotations

import pytest

from tests.integration.boxes.boxes import BoxUnderTest
from tests.integration.jupbox_command import MainJob, files_of_image


@pytest.mark.slow
def test_the_box_makes_the_base_where_the_laptop_cannot(ada_on_store: MainJob) -> None:
    made = ada_on_store.prepared
    assert made is not None
    assert "from Debian's packages on storebox-root" in made.stderr
    assert "on this machine" not in made.stderr
    base = ada_on_store.stack.docker("image", "ls", "--format", "{{.Repository}}", "jupbox-base*")
    assert base.split() == ["jupbox-base"]
    # found on the engine, not made a second time
    assert "Debian's packages" not in ada_on_store.first.stderr


@pytest.mark.slow
def test_a_second_up_touches_nothing_on_this_store(
    ada_on_store: MainJob, storebox: BoxUnderTest
) -> None:
    def images() -> list[str]:
        # in no order where they are of the same moment, as locked ones are
        return sorted(storebox.exec("docker", "image", "ls", "--all", "--no-trunc", "-q").split())

    before = ada_on_store.stack.identity(), images()
    assert "Nothing to do" in ada_on_store.jupbox("up").stdout
    assert (ada_on_store.stack.identity(), images()) == before


@pytest.mark.slow
def test_down_and_up_keep_everything_on_this_store(ada_on_store: MainJob) -> None:
    before = ada_on_store.status()
    storebox = ada_on_store.box
    storebox.exec("su", "ada", "-c", "echo from the host > ~/notebooks/kept.txt")
    ada_on_store.jupbox("down")
    ada_on_store.jupbox("up")
    after = ada_on_store.status()
    kept = ("url", "certificate", "container", "lock", "generation")
    assert {key: before[key] for key in kept} == {key: after[key] for key in kept}
    assert ada_on_store.stack.exec("cat", "/home/ada/notebooks/kept.txt") == "from the host\n"


@pytest.mark.slow
def test_a_new_password_holds_at_once_and_over_a_new_container(ada_on_store: MainJob) -> None:
    identity = ada_on_store.stack.identity()
    kernel = ada_on_store.stack.start_kernel()
    with ada_on_store.visitor() as visitor:
        certificate = visitor.fingerprint()
        ada_on_store.jupbox("password", "--stdin", input="a new pass phrase\n")
        assert visitor.log_in("a new pass phrase")
        assert not visitor.log_in(ada_on_store.first.password or "")
    assert ada_on_store.stack.identity() == identity
    ada_on_store.stack.run_in_kernel(kernel, "pass")

    ada_on_store.stack.docker("rm", "--force", identity[0])
    ada_on_store.jupbox("up")
    with ada_on_store.visitor() as visitor:
        assert visitor.fingerprint() == certificate
        assert visitor.log_in("a new pass phrase")


@pytest.mark.slow
def test_the_key_and_the_hash_are_the_servers_alone_on_this_store(ada_on_store: MainJob) -> None:
    image = str(ada_on_store.stack.inspect()["Config"]["Image"])
    files = files_of_image(ada_on_store.box, image, "/etc/jupbox/seal")
    for name in ("seal/key.pem", "seal/password.hash"):
        assert (files[name].mode, files[name].uid, files[name].gid) == (0o400, 1500, 1500)
