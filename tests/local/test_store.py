"""One store: its directories, what is made when first needed, and its errors."""

import errno
import os
import time

import pytest

from cellbox.errors import EngineError, InUse, NotFound, NotSupported, PermissionDenied
from cellbox.images.host import HostImage
from cellbox.local.lease import Hold
from cellbox.local.store import Store, labels_match
from cellbox.plugins import REGISTRY

DIGEST = "sha256:" + "1" * 64


@pytest.fixture
def opened(tmp_path):
    """A store, and no launcher: none is needed here."""
    store = Store(tmp_path / "root", tmp_path / "run")
    yield store
    store.state.close()


def test_both_directories_are_made_for_this_user_alone(opened):
    for path in (opened.root, opened.run):
        assert path.stat().st_mode & 0o777 == 0o700


def test_nothing_else_happens_before_it_is_needed(opened):
    assert os.listdir(opened.root) == os.listdir(opened.run) == []


def test_a_directory_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionDenied, match="belongs to somebody else"):
        Store(tmp_path / "root", tmp_path / "run")


def test_the_run_directory_is_told_as_it_really_is(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert Store(tmp_path / "root", tmp_path / "link" / "run").run == tmp_path / "real" / "run"


# The snapshotter --------------------------------------------------------------------------------


class Snapshotter:
    """Made by the registry; which ones work is for the test to say."""

    def __init__(self, name, reason):
        self.name, self.reason = name, reason

    def usable(self, scratch):
        return self.reason


@pytest.fixture
def snapshotters(monkeypatch):
    """``snapshotters(overlay="", copying="no")``: why each of them does not work."""

    def install(**reasons):
        def load(kind, name):
            if name not in reasons:
                raise NotFound("plugin", f"{kind}.{name}")
            return lambda work: Snapshotter(name, reasons[name])

        monkeypatch.setattr(REGISTRY, "load", load)

    return install


@pytest.mark.parametrize(
    ("reasons", "chosen"),
    [({"overlay": "", "copying": ""}, "overlay"), ({"overlay": "no", "copying": ""}, "copying")],
)
def test_the_first_snapshotter_that_works_is_chosen(opened, snapshotters, reasons, chosen):
    snapshotters(**reasons)
    assert opened.snapshotter.name == chosen
    assert opened.snapshotter is opened.snapshotter


def test_a_store_keeps_its_snapshotter(opened, snapshotters):
    snapshotters(overlay="not here", copying="")
    assert opened.snapshotter.name == "copying"
    snapshotters(overlay="", copying="not asked again")
    assert Store(opened.root, opened.run).snapshotter.name == "copying"


def test_a_noted_snapshotter_that_is_gone_is_told(opened, snapshotters):
    snapshotters(overlay="", copying="")
    (opened.root / "snapshotter").write_text("zfs")
    with pytest.raises(NotFound, match=r"snapshotter\.zfs"):
        _ = opened.snapshotter


def test_where_none_works_all_reasons_are_told_and_nothing_is_noted(opened, snapshotters):
    snapshotters(overlay="no overlayfs", copying="no room")
    with pytest.raises(NotSupported, match="no snapshotter works here: no overlayfs; no room"):
        _ = opened.snapshotter
    assert not (opened.root / "snapshotter").exists()


# Images -----------------------------------------------------------------------------------------


@pytest.fixture
def host(opened, tmp_path):
    """The store with an image ``host`` of an almost empty machine."""
    (tmp_path / "etc").mkdir()
    opened.host = HostImage(opened.root, trees=(), etc=str(tmp_path / "etc"))
    return opened


@pytest.mark.parametrize("ref", ["host", "host:latest"])
def test_the_image_host_is_known_when_it_is_asked_for(host, ref):
    assert host.state.images.all() == []
    image = host.image(ref)
    assert image.tags == ("host:latest",)
    assert host.image(ref) == image == host.image(image.id)
    assert host.state.images.all() == [image]


def test_the_image_host_follows_the_machine(host, tmp_path):
    before = host.image("host")
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\nown:x:7:7::/:\n")
    host.host = HostImage(host.root, trees=(), etc=str(tmp_path / "etc"))
    after = host.image("host")
    assert after.id != before.id
    assert host.image(before.id).tags == () and after.tags == ("host:latest",)


def test_the_name_host_means_the_machine_again_after_it_was_moved(host, make_image):
    image = host.image("host")
    host.state.images.add(make_image(7, tags=["host:latest"]))
    assert host.image("host").id == image.id
    assert host.state.images.get("host").id == image.id


def test_any_other_image_is_looked_up(opened, make_image):
    image = opened.state.images.add(make_image(7, tags=["a:latest"]))
    assert opened.image("a") == image
    with pytest.raises(NotFound):
        opened.image("host:1")


# Leases, errors, events -------------------------------------------------------------------------


def test_what_is_looked_for_in_a_lease_is_held_until_its_end(opened):
    with opened.leased("load") as (content, layers):
        assert not content.has(DIGEST) and not layers.has(DIGEST)
        for kind in (Hold.BLOB, Hold.LAYER):
            assert opened.state.leases.holder(kind, DIGEST) == "load"
        blob = content.put(b"x")
        assert opened.collect().blobs == ()
    assert opened.state.leases.held(Hold.BLOB) == frozenset()
    assert opened.collect().blobs == (blob,)


def test_an_error_ends_the_lease_and_is_told(opened):
    with pytest.raises(EngineError, match="load: .*No space left"):
        with opened.leased("load") as (content, _):
            content.has(DIGEST)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert opened.state.leases.held(Hold.BLOB) == frozenset()


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x"), PermissionDenied),
        (OSError(errno.EIO, "Input/output error"), EngineError),
        (ConnectionResetError(), EngineError),
        (InUse("as it is"), InUse),
        (ValueError("a bug"), ValueError),
    ],
)
def test_errors_of_the_machine_become_errors_of_the_engine(opened, raised, told):
    with pytest.raises(told) as caught, opened.told("pull a"):
        raise raised
    if isinstance(raised, OSError):
        assert str(caught.value).startswith("pull a: ") and caught.value.__cause__ is raised
    else:
        assert caught.value is raised


def test_what_happened_is_noted(opened):
    opened.emit("image", "tag", DIGEST, name="a:1")
    (event,) = opened.events.follow(since=0.0, until=time.time())
    assert (event.kind, event.action, event.id) == ("image", "tag", DIGEST)
    assert event.attributes == {"name": "a:1"}


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [("a", True), ("a=1", True), ("a=2", False), ("b=", True), ("b", True), ("a=", False)]
    + [("c", False), ("d=x=y", True), ("d=x", False)],
)
def test_labels(wanted, matches):
    assert labels_match({"a": "1", "b": "", "d": "x=y"}, wanted) is matches
