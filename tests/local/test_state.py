"""Images and containers of a store: names, ids, and several processes at once."""

import json
import os
import signal
from dataclasses import replace

import pytest

from cellbox.errors import AlreadyExists, InUse, InvalidArgument, InvalidReference, NotFound
from cellbox.local.lease import Hold
from cellbox.local.state import State
from cellbox.model.container import Limits, RunSpec
from cellbox.model.image import Descriptor, Removed

# --- images --------------------------------------------------------------------------------------


def test_an_image_comes_back_as_it_was_added(state, make_image):
    image = make_image(1, tags=["ubuntu:latest"], digests=["ubuntu@sha256:" + "a" * 64])
    manifest = Descriptor("manifest", "sha256:" + "a" * 64, 7)

    assert state.images.add(image, manifest=manifest) == image
    assert state.images.get("ubuntu") == image
    assert state.images.all() == [image]
    assert state.images.manifest("ubuntu") == manifest


def test_adding_again_keeps_the_names_and_the_manifest(state, make_image):
    manifest = Descriptor("manifest", "sha256:" + "a" * 64, 7)
    state.images.add(make_image(1, tags=["a:1"]), manifest=manifest)

    assert state.images.add(make_image(1, tags=["a:2"])).tags == ("a:1", "a:2")
    assert state.images.manifest("a:1") == manifest


def test_a_name_moves_to_the_image_that_has_it_last(state, make_image):
    state.images.add(make_image(1, tags=["ubuntu:latest"]))
    state.images.add(make_image(2, tags=["ubuntu:latest"]))

    assert state.images.resolve("ubuntu") == make_image(2).id
    assert state.images.get(make_image(1).id).tags == ()


@pytest.mark.parametrize(
    "ref",
    [
        "ubuntu",
        "ubuntu:latest",
        "docker.io/library/ubuntu",
        "ubuntu@sha256:" + "a" * 64,
        "ubuntu:22.04@sha256:" + "a" * 64,
        "sha256:" + f"{0xABC:064x}",
        f"{0xABC:064x}",
        f"{0xABC:064x}"[:62],
        "sha256:" + f"{0xABC:064x}"[:62],
    ],
)
def test_what_names_an_image(state, make_image, ref):
    image = make_image(
        0xABC, tags=["ubuntu:latest"], digests=["ubuntu@sha256:" + "a" * 64], created=2.0
    )
    state.images.add(image)
    state.images.add(make_image(0xBCD, tags=["debian:12"]))

    assert state.images.resolve(ref) == image.id


@pytest.mark.parametrize("ref", ["alpine", "ubuntu:18", "fff", "sha256:" + "f" * 64, "f" * 64])
def test_what_names_no_image(state, make_image, ref):
    state.images.add(make_image(1, tags=["ubuntu:latest"]))

    with pytest.raises(NotFound, match="No such image"):
        state.images.get(ref)


def test_what_is_no_name_at_all(state):
    with pytest.raises(InvalidReference):
        state.images.get("UPPER case")


def test_a_prefix_of_two_images_is_refused_and_a_name_goes_before_it(state, make_image):
    state.images.add(make_image(1))
    state.images.add(make_image(2, tags=["0000:latest"]))

    with pytest.raises(InvalidArgument, match="ambiguous"):
        state.images.resolve("000")
    assert state.images.resolve("0000") == make_image(2).id


def test_tag_and_untag(state, make_image):
    state.images.add(make_image(1, tags=["a:1"]))
    state.images.add(make_image(2, tags=["b:1"]))

    state.images.tag("a:1", "docker.io/library/b:1")
    assert state.images.get("b:1").tags == ("a:1", "b:1")
    assert state.images.untag("b:1") == Removed(untagged="b:1")
    with pytest.raises(NotFound):
        state.images.untag("b:1")
    with pytest.raises(InvalidReference, match="digest reference"):
        state.images.tag("a:1", "c@sha256:" + "a" * 64)


def test_removing_an_image_takes_its_names_first(state, make_image, tmp_path):
    image = state.images.add(make_image(1, tags=["a:1", "a:2"]))

    assert state.images.remove(image.id) == [
        Removed(untagged="a:1"),
        Removed(untagged="a:2"),
        Removed(deleted=image.id),
    ]
    assert state.images.all() == []
    assert list((tmp_path / "images").iterdir()) == []
    with pytest.raises(NotFound):
        state.images.remove(image.id)


def test_steps_go_with_what_was_made_from_them(state, make_image, add_container):
    def step(number, parent, **names):
        image = replace(make_image(number, **names), parent=parent)
        return state.images.add(image).id

    base = step(1, "", tags=["base:1"])
    first = step(2, base)
    second = step(3, first)
    other = step(4, first)

    assert state.images.remove_steps(first) == []  # others were made from it
    state.images.remove(other)
    assert state.images.remove_steps(first) == []
    container = add_container(state, 7, image=3)
    assert state.images.remove_steps(second) == []
    state.containers.delete(container.id)
    assert [one.deleted for one in state.images.remove_steps(second)] == [second, first]
    assert [image.id for image in state.images.all()] == [base]
    assert state.images.remove_steps(first) == []


def test_an_image_in_use_is_not_removed(state, make_image, add_container):
    image = state.images.add(make_image(1, tags=["a:1"]))
    container = add_container(state, 7)

    assert state.images.users(image.id) == [container.id]
    with pytest.raises(InUse, match=f"being used by container {container.id[:12]}"):
        state.images.remove(image.id)
    state.containers.delete(container.id)
    with state.leases.take("push a:1") as lease:
        lease.hold(Hold.IMAGE, image.id)
        with pytest.raises(InUse, match="push a:1"):
            state.images.remove(image.id)
    state.images.remove(image.id)


# --- containers ----------------------------------------------------------------------------------


def test_a_container_comes_back_as_it_was_added(state, make_image, add_container, tmp_path):
    state.images.add(make_image(1))
    record = add_container(state, 7, "/web")

    assert (record.name, record.removing) == ("web", False)
    for ref in ("web", "/web", record.id, record.id[:62]):
        assert state.containers.get(ref) == record
    assert (tmp_path / "containers" / record.id / "container.json").exists()


def test_an_empty_name_is_generated(state, make_image, add_container):
    state.images.add(make_image(1))

    first, second = add_container(state, 1), add_container(state, 2)
    assert "_" in first.name and first.name != second.name


def test_a_name_in_use_is_refused_with_dockers_sentence(state, make_image, add_container):
    state.images.add(make_image(1))
    first = add_container(state, 1, "web")
    other = add_container(state, 2, "db")

    for attempt in (
        lambda: add_container(state, 3, "web"),
        lambda: state.containers.rename("db", "web"),
    ):
        with pytest.raises(AlreadyExists) as caught:
            attempt()
        assert str(caught.value) == (
            f'Conflict. The container name "/web" is already in use by container "{first.id}". '
            "You have to remove (or rename) that container to be able to reuse that name."
        )
    assert state.containers.all() == [other, first]


def test_without_its_image_nothing_is_added(state, add_container, tmp_path):
    with pytest.raises(NotFound, match="No such image: ubuntu"):
        add_container(state, 1)
    assert not (tmp_path / "containers").exists()


def test_rename_update_and_removing(state, make_image, add_container):
    state.images.add(make_image(1))
    record = add_container(state, 1, "web")
    changed = RunSpec("ubuntu", limits=Limits(pids=5))

    state.containers.rename("web", "db")
    state.containers.update("db", changed)
    state.containers.mark_removing("db")

    found = state.containers.get(record.id)
    assert (found.name, found.spec, found.removing) == ("db", changed, True)
    with pytest.raises(InvalidArgument, match="same name"):
        state.containers.rename("db", "db")
    with pytest.raises(NotFound):
        state.containers.get("web")


@pytest.mark.parametrize("ref", ["", "/", "nobody", "00ff", "%", "_"])
def test_what_names_no_container(state, make_image, add_container, ref):
    state.images.add(make_image(1))
    add_container(state, 1, "web")

    with pytest.raises(NotFound, match="No such container"):
        state.containers.get(ref)


def test_a_prefix_of_two_containers_is_refused(state, make_image, add_container):
    state.images.add(make_image(1))
    add_container(state, 1)
    add_container(state, 2)

    with pytest.raises(InvalidArgument, match="Multiple IDs"):
        state.containers.get("000")


# --- several processes ---------------------------------------------------------------------------

CREATE = """
import sys
from pathlib import Path
from cellbox.errors import AlreadyExists
from cellbox.local.state import State
from cellbox.model.container import RunSpec
root, image, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
state, won = State(root), 0
sys.stdin.readline()
for number in range(25):
    for name in ("", f"shared{number}"):
        try:
            state.containers.add(f"{first + 2 * number + bool(name):064x}", image_id=image,
                spec=RunSpec("ubuntu"), command=(), created=1.0, name=name)
            won += bool(name)
        except AlreadyExists:
            pass
print(won)
"""


def test_processes_that_create_at_once_share_no_name(state, make_image, python, tmp_path):
    image = state.images.add(make_image(1))
    processes = [python(CREATE, tmp_path, image.id, 1000 * number) for number in range(4)]

    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    won = [int(process.communicate()[0]) for process in processes]

    assert sum(won) == 25
    assert len({record.name for record in state.containers.all()}) == 4 * 25 + 25


ADD = """
import sys
from pathlib import Path
from cellbox.local.state import State
from cellbox.model.container import RunSpec
State(Path(sys.argv[1])).containers.add("f" * 64, image_id=sys.argv[2], spec=RunSpec("ubuntu"),
    command=(), created=1.0, name="web")
"""


def test_a_process_killed_before_its_commit_leaves_the_name_free(
    state, make_image, add_container, python, tmp_path
):
    image = state.images.add(make_image(1))

    killed = python(ADD, tmp_path, image.id, fault="state.commit.before:kill")
    assert killed.wait() == -signal.SIGKILL

    assert state.containers.all() == []
    assert add_container(state, 1, "web").name == "web"


# --- what survives -------------------------------------------------------------------------------


def _ruin(root):
    """Overwrite the database as a bad disk would."""
    path = root / "state.db"
    path.write_bytes(path.read_bytes()[:4096] + os.urandom(3 * 4096))
    (root / "state.db.suspect").touch()


@pytest.mark.parametrize("loss", [_ruin, lambda root: (root / "state.db").unlink()])
def test_a_lost_database_is_made_again_from_the_records(tmp_path, make_image, add_container, loss):
    state = State(tmp_path)
    manifest = Descriptor("manifest", "sha256:" + "a" * 64, 7)
    state.images.add(make_image(1, tags=["a:1", "b:1"], created=2.0), manifest=manifest)
    state.images.add(make_image(2, tags=["b:1"]))
    state.images.untag("a:1")
    state.images.remove(state.images.add(make_image(3)).id)
    add_container(state, 1, "web")
    add_container(state, 2, "db")
    state.containers.rename("db", "cache")
    state.containers.delete(add_container(state, 3, "gone").id)
    before = state.images.all(), state.containers.all()
    state.close()

    loss(tmp_path)

    state = State(tmp_path)
    assert (state.images.all(), state.containers.all()) == before
    assert state.images.manifest(make_image(1).id) == manifest
    state.close()


def test_records_that_claim_one_name_are_both_kept(tmp_path, make_image, add_container):
    state = State(tmp_path)
    state.images.add(make_image(1))
    add_container(state, 1, "web")
    stale = tmp_path / "containers" / f"{2:064x}" / "container.json"
    stale.parent.mkdir()
    first = tmp_path / "containers" / f"{1:064x}" / "container.json"
    stale.write_text(json.dumps({**json.loads(first.read_text()), "id": f"{2:064x}"}))
    os.utime(stale, (1, 1))
    state.close()
    (tmp_path / "state.db").unlink()

    state = State(tmp_path)
    assert state.containers.get("web").id == f"{1:064x}"
    assert state.containers.get(f"{2:064x}").name == "0" * 12
    state.close()


NONSENSE = [
    "",
    '{"image":',
    "[]",
    "{}",
    "7",
    '{"image":{"id":[],"tags":[],"digests":[],"layers":[],"config":{},"platform":{},"size":1}}',
    '{"image":{"id":"sha256:b","tags":[],"digests":[],"layers":[],"config":{},"platform":{},'
    '"size":1}}',
    '{"image":{"id":"sha256:a","tags":[[]],"digests":[],"layers":[],"config":{},"platform":{},'
    '"size":1}}',
    '{"image":{"id":"sha256:a","tags":[],"digests":[],"layers":[{"diff_id":null,"size":1}],"config":{},'
    '"platform":{},"size":1}}',
    '{"id":"a","name":[],"image_id":"c","spec":{"image":"d"},"command":[],"created":1}',
    '{"id":"b","name":"b","image_id":"c","spec":{"image":"d"},"command":[],"created":1}',
]


@pytest.mark.parametrize("text", NONSENSE)
def test_records_that_make_no_sense_are_skipped_and_the_others_are_not(
    tmp_path, make_image, add_container, text
):
    state = State(tmp_path)
    image = state.images.add(make_image(1))
    container = add_container(state, 1)
    state.close()
    (tmp_path / "images" / "a.json").write_text(text)
    (tmp_path / "containers" / "a").mkdir()
    (tmp_path / "containers" / "a" / "container.json").write_text(text)
    (tmp_path / "state.db").unlink()

    state = State(tmp_path)
    assert state.images.all() == [image]
    assert state.containers.all() == [container]
    state.close()


def test_records_of_images_that_are_gone_are_forgotten(state, make_image, tmp_path):
    image = state.images.add(make_image(1))
    (tmp_path / "images" / ("f" * 64 + ".json")).write_text("{}")

    state.images.forget_strays()
    assert [path.stem for path in (tmp_path / "images").iterdir()] == [image.id[7:]]


def test_a_store_has_one_id(state, tmp_path):
    other = State(tmp_path)
    assert state.id() == other.id() != ""
    other.close()


def test_several_changes_are_one_transaction(state, make_image, add_container):
    state.images.add(make_image(1))

    with pytest.raises(KeyError), state.write():
        add_container(state, 1, "web")
        raise KeyError
    assert state.containers.all() == []
