"""Images behind the API: what is sent, and what is read from the steps that come back."""

from __future__ import annotations

import base64
import io
import json

import pytest

from cellbox.errors import (
    EngineError,
    InvalidArgument,
    InvalidReference,
    NotFound,
    NotSupported,
    Unauthorized,
)
from cellbox.model.image import (
    Descriptor,
    HistoryEntry,
    Image,
    ImageConfig,
    Layer,
    Platform,
    Pushed,
    Removed,
)
from cellbox.model.registry import Credential, Distribution
from cellbox.wire.images import history_json, image_json
from cellbox.wire.registry import distribution_json

ID = "sha256:" + "ab" * 32
BOX = Image(
    ID,
    ("box:1",),
    (),
    (Layer("sha256:" + "1" * 64, 7),),
    ImageConfig(command=("sh",)),
    Platform(),
    7,
    1e9,
    history=(HistoryEntry(1e9, "made", size=7),),
)


@pytest.fixture
def box(tells):
    """The image ``box:1``, by that name and by its id."""
    for ref in ("box:1", ID):
        tells(f"GET /images/{ref}/json", image_json(BOX))
        tells(f"GET /images/{ref}/history", history_json(BOX))


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    """``config({...})`` writes the user's config.json."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def write(document):
        (tmp_path / "config.json").write_text(json.dumps(document))

    return write


def lines(*steps):
    data = b"".join(json.dumps(step).encode() + b"\r\n" for step in steps)
    return lambda asked: asked.reply(200, data)


def test_facts_are_whole_also_in_lists(engine, box, tells):
    tells("GET /images/json", [{"Id": ID}])
    assert engine.images.get("box:1") == BOX
    assert engine.images.list() == [BOX]


def test_names(engine, tells, told):
    tells("POST /images/box/tag", None, 201)
    engine.images.tag("box", "localhost:5000/a/b")
    assert told()[1] == {"repo": ["localhost:5000/a/b"], "tag": ["latest"]}
    with pytest.raises(InvalidReference):
        engine.images.tag("box", "Bad Name")
    with pytest.raises(InvalidArgument, match="digest"):
        engine.images.tag("box", "a@sha256:" + "0" * 64)
    tells("DELETE /images/box", [{"Untagged": "box:latest"}, {"Deleted": ID}])
    assert engine.images.remove("box", force=True) == [Removed("box:latest"), Removed("", ID)]
    assert told()[1] == {"force": ["1"]}


# Pull -------------------------------------------------------------------------------------------


def test_pull_tells_its_steps(engine, box, daemon, told):
    daemon.answers["POST /images/create"] = lines(
        {"status": "Pulling from library/box", "id": "1"},
        {"status": "Downloading", "id": "ab", "progressDetail": {"current": 5, "total": 9}},
        {"aux": {}},
    )
    steps = []
    assert engine.images.pull("box:1", platform="linux/arm64", watch=steps.append) == BOX
    assert [(step.action, step.current, step.total) for step in steps][1] == ("Downloading", 5, 9)
    asked = daemon.asked[0].target
    assert asked.endswith("create?fromImage=box&tag=1&platform=linux%2Farm64")
    assert "x-registry-auth" not in daemon.asked[0].headers


def pushed(*steps):
    aux = {"aux": {"Tag": "1", "Digest": ID, "Size": 528}, "progressDetail": {}}
    return lines({"status": "Preparing", "id": "ab"}, *steps, aux)


def test_push_tells_its_steps_and_what_came_of_it(engine, daemon, told, config):
    config({"auths": {"reg:5000": {"auth": base64.b64encode(b"ada:engine").decode()}}})
    daemon.answers["POST /images/reg:5000/lab/box/push"] = pushed()
    steps = []
    found = engine.images.push("reg:5000/lab/box:1", watch=steps.append)
    assert found == Pushed("reg:5000/lab/box:1", ID, 528)
    assert [step.action for step in steps] == ["Preparing"]
    assert told()[1] == {"tag": ["1"]}
    shown = json.loads(base64.urlsafe_b64decode(daemon.asked[-1].headers["x-registry-auth"]))
    assert shown == {"username": "ada", "password": "engine", "serveraddress": "reg:5000"}


def test_push_without_a_login_says_so_in_a_header_all_the_same(engine, daemon):
    daemon.answers["POST /images/lab/box/push"] = pushed()
    engine.images.push("lab/box:1")
    assert daemon.asked[-1].headers["x-registry-auth"] == "e30="


def test_a_compression_is_for_our_own_engines(engine, daemon, tells):
    daemon.answers["POST /images/lab/box/push/zstd"] = pushed()
    assert engine.images.push("lab/box:1", compression="zstd").digest == ID
    tells("POST /images/lab/box/push/gzip", {"message": "page not found"}, 404)
    with pytest.raises(NotSupported, match="cannot choose the compression of what is pushed"):
        engine.images.push("lab/box:1", compression="gzip")


def test_a_push_that_fails_or_tells_nothing(engine, daemon):
    with pytest.raises(InvalidArgument, match="digest reference"):
        engine.images.push(f"lab/box@{ID}")
    daemon.answers["POST /images/lab/box/push"] = lines({"status": "Preparing"})
    with pytest.raises(EngineError, match="did not tell the digest"):
        engine.images.push("lab/box:1")
    for sentence in ("push access denied for lab/box", "denied: access to the resource is denied"):
        daemon.answers["POST /images/lab/box/push"] = lines({"error": sentence})
        with pytest.raises(Unauthorized):
            engine.images.push("lab/box:1")


def test_a_pull_that_fails_on_its_way(engine, daemon, tells):
    failure = {"error": "manifest for box:1 not found: manifest unknown"}
    daemon.answers["POST /images/create"] = lines({"status": "Pulling"}, failure)
    with pytest.raises(NotFound, match="manifest unknown"):
        engine.images.pull("box:1")


@pytest.mark.parametrize(
    ("ref", "key", "domain"),
    [
        ("box:1", "https://index.docker.io/v1/", "https://index.docker.io/v1/"),
        ("reg.example/box:1", "reg.example", "reg.example"),
    ],
)
def test_the_registry_is_shown_who_is_logged_in(engine, daemon, config, ref, key, domain):
    config({"auths": {key: {"auth": base64.b64encode(b"me:secret").decode()}}})
    daemon.answers["POST /images/create"] = lines({"error": "stop here"})
    with pytest.raises(EngineError, match="stop here"):
        engine.images.pull(ref)
    shown = json.loads(base64.urlsafe_b64decode(daemon.asked[0].headers["x-registry-auth"]))
    assert (shown["username"], shown["password"], shown["serveraddress"]) == (
        "me",
        "secret",
        domain,
    )


def test_who_asks_may_be_somebody_else(engine, daemon, tells, config):
    config({"auths": {"reg.example": {"auth": base64.b64encode(b"me:secret").decode()}}})
    found = Distribution(Descriptor("a/b", ID, 3), (Platform(),))
    tells("GET /distribution/reg.example/box:1/json", distribution_json(found))
    auth = Credential("you", "other")
    assert engine.images.distribution("reg.example/box:1", auth=auth) == found
    assert b"you" in base64.urlsafe_b64decode(daemon.asked[0].headers["x-registry-auth"])


def test_login(engine, tells, told):
    tells("POST /auth", {"Status": "Login Succeeded"})
    engine.images.login("reg.example", Credential("me", "secret"))
    _, _, body = told()
    assert body == {"username": "me", "password": "secret", "serveraddress": "reg.example"}


# In and out -------------------------------------------------------------------------------------


def test_load_gives_what_was_in_it(engine, box, daemon):
    daemon.answers["POST /images/load"] = lines(
        {"status": "Loading layer", "id": "ab", "progressDetail": {"current": 1}},
        {"stream": "Loaded image: box:1\n"},
        {"stream": f"Loaded image ID: {ID}\n"},
    )
    steps = []
    assert engine.images.load(io.BytesIO(b"x" * 200_000), watch=steps.append) == [BOX, BOX]
    assert [step.action for step in steps] == ["Loading layer"]
    assert daemon.asked[0].body == b"x" * 200_000
    assert daemon.asked[0].target.endswith("load?quiet=0")


def test_what_holds_no_image(engine, daemon):
    daemon.answers["POST /images/load"] = lines()
    with pytest.raises(InvalidArgument, match="no image"):
        engine.images.load(io.BytesIO(b""))


def test_import(engine, box, daemon, told):
    daemon.answers["POST /images/create"] = lines({"status": "Loading"}, {"status": ID})
    made = engine.images.import_(
        io.BytesIO(b"tar"), name="box:1", message="why", changes=["CMD sh", "USER me"]
    )
    assert made == BOX
    target = daemon.asked[0].target
    assert "fromSrc=-&repo=box&tag=1&message=why&changes=CMD+sh&changes=USER+me" in target
    daemon.answers["POST /images/create"] = lines({"status": "hm"})
    with pytest.raises(EngineError, match="did not tell"):
        engine.images.import_(io.BytesIO(b"tar"))


def test_commit(engine, box, daemon, tells):
    tells("POST /commit", {"Id": ID}, 201)
    assert engine.images.commit("web", author="me", pause=False) == BOX
    assert daemon.asked[0].target.endswith("/commit?container=web&author=me&pause=0")


def test_save(engine, daemon):
    daemon.answers["GET /images/get"] = lambda asked: asked.reply(200, b"tar" * 50_000)
    out = io.BytesIO()
    engine.images.save(["a", "b:1"], out)
    assert out.getvalue() == b"tar" * 50_000
    assert daemon.asked[0].target.endswith("?names=a&names=b%3A1")
    with pytest.raises(InvalidArgument, match="format"):
        engine.images.save(["a"], out, format="zip")


@pytest.mark.parametrize(("version", "able"), [("1.43", False), ("1.44", True)])
def test_newer_daemons_save_an_oci_layout(engine, daemon, version, able):
    daemon.version = version
    daemon.answers["GET /images/get"] = lambda asked: asked.reply(200, b"tar")
    out = io.BytesIO()
    if able:
        engine.images.save(["a"], out, format="oci")
        assert out.getvalue() == b"tar"
    else:
        with pytest.raises(NotSupported, match="format"):
            engine.images.save(["a"], out, format="oci")
