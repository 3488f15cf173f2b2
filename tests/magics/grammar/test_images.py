"""The verbs of images."""

from __future__ import annotations

import pytest

from cellbox.errors import InvalidArgument, NotFound


def test_images_is_a_list_of_handles(engine, say):
    found = say("%container images")
    assert [handle.tags[0] for handle in found] == ["host:latest", "ubuntu:latest"]
    assert found.titles == ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE")
    assert say("%container images -q --no-trunc") == [handle.id for handle in found]
    assert "DIGEST" in say("%container images --digests").titles
    say("%container image ls ubuntu")
    assert engine.named("images")[-1] == ("images", {"reference": ["ubuntu"]})
    assert say("%container images --format '{{.Repository}}:{{.Tag}}'")[0] == "host:latest"


def test_pull_shows_plain_lines_where_there_is_no_kernel(engine, say, capsys):
    image = say("%container pull python:3.12")
    assert image.tags == ("python:3.12",)
    assert capsys.readouterr().err.splitlines() == ["a1b2: Downloading", "a1b2: Pull complete"]
    say("%container pull -q --platform linux/arm64 python:3.12")
    assert engine.named("pull")[-1] == ("pull", "python:3.12", "linux/arm64")
    assert capsys.readouterr().err == ""


def test_push_shows_what_it_does_and_where_it_is_then(engine, say, capsys):
    (line,) = say("%container push ubuntu")
    assert line == f"ubuntu:latest@{engine.images.get('ubuntu').id}"
    assert capsys.readouterr().err.splitlines() == ["d1d2: Pushing", "d1d2: Pushed"]
    assert say("%container image push -q --compression zstd ubuntu:latest") == ["ubuntu:latest"]
    assert capsys.readouterr().err == ""
    assert engine.named("push") == [("push", "ubuntu", ""), ("push", "ubuntu:latest", "zstd")]


def test_all_tags_of_a_repository_are_pushed(engine, say):
    engine.images.add("lab/x:1")
    engine.images.add("lab/x:2")
    engine.images.add("lab/xy:3")
    assert say("%container push -aq lab/x") == ["lab/x:1", "lab/x:2"]
    assert [ref for _, ref, _ in engine.named("push")] == ["lab/x:1", "lab/x:2"]
    with pytest.raises(NotFound):
        say("%container push -a lab/nosuch")


def test_a_pull_policy_decides(engine, say):
    say("%container run --pull always ubuntu hello")
    assert engine.named("pull") == [("pull", "ubuntu", "")]
    with pytest.raises(NotFound, match="pull it first"):
        say("%container run --pull never python:3.12 hello")


def test_tags_and_removal(engine, say):
    say("%container tag ubuntu mine")
    said = say("%container rmi -f ubuntu")
    assert said[:2] == ["Untagged: ubuntu:latest", "Untagged: mine:latest"]
    assert said[2].startswith("Deleted: sha256:")


def test_history_is_newest_first(say):
    table = say("%container history ubuntu")
    assert [row[2] for row in table.rows] == ["CMD", "ADD rootfs"]
    assert table.rows[1][0] == "<missing>"
    assert len(say("%container history -q ubuntu")) == 2
    assert "CREATED AT" in say("%container history --human=false ubuntu").titles


def test_archives_go_through_named_files(engine, say, tmp_path, capsys):
    archive = tmp_path / "a.tar"
    say(f"%container save -o {archive} --format oci ubuntu host")
    assert archive.read_bytes() == b"an archive"
    assert engine.named("save") == [("save", ("ubuntu", "host"), "oci")]
    assert say(f"%container load -i {archive}") == ["Loaded image: loaded:latest"]
    assert engine.named("load") == [("load", b"an archive")]
    made = say(f"%container import -c 'CMD ls' -m why {archive} mine")
    assert made[0].startswith("sha256:")
    assert engine.named("import")[0][2] == {
        "name": "mine", "message": "why", "changes": ("CMD ls",),
    }  # fmt: skip
    with pytest.raises(InvalidArgument, match="-i FILE"):
        say("%container load")
    with pytest.raises(InvalidArgument, match="-o FILE"):
        say("%container save ubuntu")
    with pytest.raises(InvalidArgument, match="No such file"):
        say("%container load -i /nowhere/a.tar")
    with pytest.raises(InvalidArgument, match="No such file"):
        say("%container save -o /nowhere/a.tar ubuntu")


def test_commit(engine, say):
    say("_ = %container create --name web ubuntu ls")
    say("%container commit -a ada -m why -c 'CMD ls' --pause=false --with-volumes web mine")
    assert engine.named("commit") == [
        ("commit", "web", {
            "name": "mine", "message": "why", "author": "ada", "changes": ("CMD ls",),
            "pause": False, "volumes": True,
        }),
    ]  # fmt: skip


def test_prune_keeps_what_is_used(engine, say):
    say("_ = %container create --name web ubuntu ls")
    said = say("%container image prune -af")
    assert said[0] == "Deleted Images:"
    assert list(engine.images.facts) == ["ubuntu:latest"]
