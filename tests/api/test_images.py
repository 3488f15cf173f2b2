"""Images over the API."""

import base64
import io
import json
from dataclasses import replace
from urllib.parse import quote, urlencode

import pytest

from cellbox.errors import EngineError, InUse, InvalidArgument, NotFound, Unauthorized
from cellbox.model.image import (
    HistoryEntry,
    Image,
    ImageConfig,
    Layer,
    Platform,
    Progress,
    Pushed,
    Removed,
)
from cellbox.model.registry import Credential
from cellbox.wire.registry import credential_header

BASE = Layer("sha256:" + "1" * 64, 1000)
TOP = Layer("sha256:" + "2" * 64, 50)
BOX = Image(
    "sha256:" + "b" * 64, ("reg:5000/lab/box:1",), (), (BASE, TOP), ImageConfig(), Platform(), 1050,
    100.0, history=(HistoryEntry(50.0, "COPY / /", size=1000), HistoryEntry(100.0, "RUN x")),
)  # fmt: skip
BARE = replace(BOX, id="sha256:" + "c" * 64, tags=(), layers=(BASE,), size=1000)
NOBODY = Credential()


@pytest.fixture
def images(scripted):
    scripted.images.answers = {
        "get": BOX,
        "list": [BOX, BARE],
        "remove": [Removed(untagged="box:1"), Removed(deleted=BOX.id)],
        "load": [BOX, BARE],
        "import_": BOX,
        "commit": BOX,
    }
    return scripted.images


def header_of(**credential):
    return base64.urlsafe_b64encode(json.dumps(credential).encode()).decode()


# --- looking -------------------------------------------------------------------------------------


def test_list(ask, images):
    told = ask("GET", "/images/json?" + urlencode({"filters": '{"label":["a=b"]}'})).json
    assert [one["Id"] for one in told] == [BOX.id, BARE.id]
    assert [one["SharedSize"] for one in told] == [-1, -1]
    assert images.calls == [("list", {"all": False, "filters": {"label": ["a=b"]}})]


def test_what_images_share_is_counted_when_asked(ask, images):
    images.answers["list"] = [BOX, BARE, replace(BOX, id="sha256:3", layers=(TOP,))]
    told = ask("GET", "/images/json?shared-size=1").json
    assert [one["SharedSize"] for one in told] == [1050, 1000, 50]


def test_only_the_names_that_were_asked_for_are_shown(ask, images):
    images.answers["list"] = [replace(BOX, tags=("lab/box:1", "other:1"))]
    told = ask("GET", "/images/json?" + urlencode({"filters": '{"reference":["lab/*"]}'})).json
    assert [one["RepoTags"] for one in told] == [["lab/box:1"]]


def test_until_is_an_instant_for_the_engine(ask, images):
    ask("GET", "/images/json?" + urlencode({"filters": '{"until":["1970-01-01T00:01:40Z"]}'}))
    assert images.calls == [("list", {"all": False, "filters": {"until": ["100.0"]}})]


@pytest.mark.parametrize("name", ["box", "reg:5000/lab/box:1", f"lab/box@{BOX.id}", BOX.id])
def test_a_name_may_have_slashes_tags_and_digests(ask, images, name):
    assert ask("GET", f"/v1.40/images/{quote(name)}/json").json["Id"] == BOX.id
    assert images.calls == [("get", name)]


def test_an_image_that_is_not_there(ask, images):
    images.answers["get"] = NotFound("image", "nope:latest")
    answer = ask("GET", "/images/nope/json")
    assert (answer.status, answer.json) == (404, {"message": "No such image: nope:latest"})


def test_history(ask, images):
    told = ask("GET", "/images/lab/box/history").json
    assert [(one["Id"], one["CreatedBy"]) for one in told] == [
        (BOX.id, "RUN x"),
        ("<missing>", "COPY / /"),
    ]


def test_search_says_where_to_look(ask):
    answer = ask("GET", "/images/search?term=x")
    assert answer.status == 501
    assert "hub.docker.com" in answer.json["message"]


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("repo=lab/x&tag=2", "lab/x:2"),
        ("repo=lab/x", "lab/x"),
        ("repo=r:5000/x&tag=2", "r:5000/x:2"),
    ],
)
def test_tag(ask, images, query, name):
    answer = ask("POST", f"/images/lab/box:1/tag?{query}")
    assert (answer.status, answer.body) == (201, b"")
    assert images.calls == [("tag", "lab/box:1", name)]


def test_remove(ask, images):
    answer = ask("DELETE", "/images/lab/box:1?force=1&noprune=1")
    assert answer.json == [{"Untagged": "box:1"}, {"Deleted": BOX.id}]
    assert images.calls == [("remove", "lab/box:1", {"force": True})]


def test_remove_of_one_in_use(ask, images):
    images.answers["remove"] = InUse('conflict: unable to remove repository reference "x"')
    answer = ask("DELETE", "/images/x")
    assert answer.status == 409
    assert answer.json["message"].startswith("conflict: unable to remove")


def test_prune(ask, images, scripted):
    scripted.containers.answers["list"] = []
    answer = ask("POST", "/images/prune?" + urlencode({"filters": '{"dangling":["true"]}'}))
    assert answer.json == {"ImagesDeleted": [{"Deleted": BARE.id}], "SpaceReclaimed": 0}
    answer = ask("POST", "/images/prune?" + urlencode({"filters": '{"dangling":["false"]}'}))
    assert {"Untagged": "reg:5000/lab/box:1"} in answer.json["ImagesDeleted"]
    answer = ask("POST", "/images/prune?" + urlencode({"filters": '{"label":["none"]}'}))
    assert answer.json == {"ImagesDeleted": None, "SpaceReclaimed": 0}


# --- pull ----------------------------------------------------------------------------------------


def pulling(*steps, error=None):
    def pull(ref, *, watch, **asked):
        for step in steps:
            watch(step)
        if error:
            raise error

    return pull


@pytest.mark.parametrize(
    ("query", "ref"),
    [
        ("fromImage=busybox&tag=latest", "busybox:latest"),
        ("fromImage=reg:5000/lab/box&tag=1", "reg:5000/lab/box:1"),
        ("fromImage=reg:5000/box", "reg:5000/box"),
        ("fromImage=box:old&tag=new", "box:new"),
        (f"fromImage=box&tag={BOX.id}", f"box@{BOX.id}"),
    ],
)
def test_what_is_pulled(ask, images, query, ref):
    images.answers["pull"] = pulling()
    assert ask("POST", f"/images/create?{query}").status == 200
    (call,) = images.calls
    assert call[:2] == ("pull", ref)
    assert (call[2]["platform"], call[2]["auth"]) == ("", NOBODY)


def test_steps_are_told_in_dockers_shape(ask, images):
    images.answers["pull"] = pulling(
        Progress("1", "Pulling from lab/box"),
        Progress("abc", "Downloading", 50, 100),
        Progress("abc", "Pull complete"),
        Progress("", "Status: Downloaded newer image for lab/box:1"),
    )
    answer = ask("POST", "/images/create?fromImage=lab/box&tag=1&platform=linux/amd64")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.lines == [
        {"status": "Pulling from lab/box", "id": "1"},
        {
            "status": "Downloading",
            "progressDetail": {"current": 50, "total": 100},
            "progress": f"[{'=' * 25}>{' ' * 25}]      50B/100B",
            "id": "abc",
        },
        {"status": "Pull complete", "progressDetail": {}, "id": "abc"},
        {"status": "Status: Downloaded newer image for lab/box:1"},
    ]
    assert images.calls[0][2]["platform"] == "linux/amd64"


def test_a_failure_before_the_first_step_has_a_status(ask, images):
    images.answers["pull"] = pulling(error=NotFound("image", "x:1"))
    answer = ask("POST", "/images/create?fromImage=x&tag=1")
    assert (answer.status, answer.json) == (404, {"message": "No such image: x:1"})
    images.answers["pull"] = pulling(error=Unauthorized("pull access denied for x"))
    assert ask("POST", "/images/create?fromImage=x&tag=1").status == 404


def test_a_failure_after_it_is_told_in_the_stream(ask, images):
    step = Progress("abc", "Pulling fs layer")
    images.answers["pull"] = pulling(step, error=EngineError("no space left"))
    answer = ask("POST", "/images/create?fromImage=x&tag=1")
    assert answer.status == 200
    assert answer.lines[1:] == [
        {"errorDetail": {"message": "no space left"}, "error": "no space left"}
    ]


def test_a_pull_is_made_with_the_clients_credentials(ask, images):
    images.answers["pull"] = pulling()
    header = header_of(username="ada", password="engine")
    ask("POST", "/images/create?fromImage=x", X_Registry_Auth=header)
    ask("POST", "/images/create?fromImage=x", X_Registry_Auth="no base64!")
    assert [call[2]["auth"] for call in images.calls] == [Credential("ada", "engine"), NOBODY]


# --- import, load, save --------------------------------------------------------------------------


def test_import(ask, images):
    read = []
    images.answers["import_"] = lambda source, **more: read.append(source.read()) or BOX
    query = urlencode(
        [("fromSrc", "-"), ("repo", "lab/x"), ("tag", "2"), ("message", "note"),
         ("changes", "ENV A=1\nUSER u"), ("changes", "CMD x")]
    )  # fmt: skip
    answer = ask("POST", f"/images/create?{query}", b"a tar", Content_Type="application/x-tar")
    assert answer.lines == [{"status": BOX.id}]
    assert read == [b"a tar"]
    asked = {"name": "lab/x:2", "message": "note", "changes": ["ENV A=1", "USER u", "CMD x"]}
    assert images.calls[0][2] == asked


def test_import_without_a_name_and_of_a_url(ask, images):
    ask("POST", "/images/create?fromSrc=-", b"a tar")
    assert images.calls[0][2]["name"] == ""
    answer = ask("POST", "/images/create?fromSrc=http://x/y.tar")
    assert answer.status == 501
    assert "docker import -" in answer.json["message"]


def test_a_bad_tar_to_import_has_a_status(ask, images):
    images.answers["import_"] = InvalidArgument("not a tar")
    assert ask("POST", "/images/create?fromSrc=-", b"x").status == 400


def test_load(ask, images):
    def load(source, *, watch):
        assert source.read() == b"a tar"
        if watch:
            watch(Progress("abc", "Loading layer", 5, 5))
        return [BOX, BOX, BARE]

    images.answers["load"] = load
    quiet, loud = (ask("POST", f"/images/load?quiet={q}", b"a tar").lines for q in "10")
    assert quiet == [
        {"stream": "Loaded image: reg:5000/lab/box:1\n"},
        {"stream": f"Loaded image ID: {BARE.id}\n"},
    ]
    assert loud[1:] == quiet
    assert ask("POST", "/images/load", b"a tar").headers["Transfer-Encoding"] == "chunked"
    assert loud[0]["progressDetail"] == {"current": 5, "total": 5}


def test_a_bad_archive_is_told_in_the_stream(ask, images):
    images.answers["load"] = InvalidArgument("unexpected EOF")
    answer = ask("POST", "/images/load", b"x")
    assert answer.status == 200
    assert answer.lines[-1]["error"] == "unexpected EOF"


@pytest.mark.parametrize(
    ("path", "names"),
    [("/images/get?names=a:1&names=lab/b", ["a:1", "lab/b"]), ("/images/lab/b:2/get", ["lab/b:2"])],
)
def test_save(ask, images, path, names):
    images.answers["save"] = lambda refs, out: out.write(b"x" * 300_000)
    answer = ask("GET", path)
    assert (answer.headers["Content-Type"], len(answer.body)) == ("application/x-tar", 300_000)
    assert images.calls == [("save", names, images.calls[0][2])]


def test_save_of_what_is_not_there(ask, images):
    images.answers["save"] = NotFound("image", "x:latest")
    answer = ask("GET", "/images/x/get")
    assert (answer.status, answer.json) == (404, {"message": "No such image: x:latest"})
    assert ask("GET", "/images/get").status == 400


def pushing(*steps, error=None):
    def push(ref, *, watch, **how):
        for step in steps:
            watch(step)
        if error:
            raise error
        return Pushed(ref, "sha256:" + "a" * 64, 528)

    return push


PUSHED = {"Tag": "1", "Digest": "sha256:" + "a" * 64, "Size": 528}


def test_a_push_is_told_in_dockers_shape(ask, images):
    images.answers["push"] = pushing(
        Progress("", "The push refers to repository [reg:5000/lab/box]"),
        Progress("abc", "Preparing"),
        Progress("abc", "Pushing", 50, 100),
        Progress("abc", "Pushed"),
        Progress("", f"1: digest: {PUSHED['Digest']} size: 528"),
    )
    header = credential_header(Credential("ada", "engine"))
    answer = ask("POST", "/images/reg:5000/lab/box/push?tag=1", X_Registry_Auth=header)
    assert answer.lines == [
        {"status": "The push refers to repository [reg:5000/lab/box]"},
        {"status": "Preparing", "progressDetail": {}, "id": "abc"},
        {
            "status": "Pushing",
            "progressDetail": {"current": 50, "total": 100},
            "progress": f"[{'=' * 25}>{' ' * 25}]      50B/100B",
            "id": "abc",
        },
        {"status": "Pushed", "progressDetail": {}, "id": "abc"},
        {"status": f"1: digest: {PUSHED['Digest']} size: 528"},
        {"progressDetail": {}, "aux": PUSHED},
    ]
    ((_, ref, how),) = images.calls
    assert (ref, how["auth"]) == ("reg:5000/lab/box:1", Credential("ada", "engine"))
    assert how["compression"] == ""


def test_a_compression_is_asked_for_by_a_path_of_our_own(ask, images):
    images.answers["push"] = pushing()
    ask("POST", "/images/reg:5000/lab/box/push/zstd?tag=1")
    assert images.calls[0][1] == "reg:5000/lab/box:1"
    assert images.calls[0][2]["compression"] == "zstd"


def test_without_a_tag_all_of_them_are_pushed(ask, images):
    images.answers["push"] = pushing()
    tags = ("lab/box:1", "lab/box:2", "lab/other:1")
    images.answers["list"] = [replace(BOX, tags=tags)]
    answer = ask("POST", "/images/lab/box/push?tag=")
    assert [one["aux"]["Tag"] for one in answer.lines] == ["1", "2"]
    assert ask("POST", "/images/lab/nosuch/push").status == 404


def test_a_push_that_is_refused_says_so_in_the_stream(ask, images):
    error = Unauthorized("push access denied for lab/box")
    images.answers["push"] = pushing(Progress("", "The push refers"), error=error)
    answer = ask("POST", "/images/lab/box/push?tag=1")
    assert answer.status == 200
    assert answer.lines[-1]["error"] == "push access denied for lab/box"


# --- commit --------------------------------------------------------------------------------------


def test_commit(ask, images):
    query = "container=web&repo=lab/x&tag=2&comment=note&author=Ada&changes=CMD%20a%0AUSER%20b"
    answer = ask("POST", f"/commit?{query}", {"Env": ["A=1"]})
    assert (answer.status, answer.json) == (201, {"Id": BOX.id})
    assert images.calls == [
        (
            "commit",
            "web",
            {
                "name": "lab/x:2",
                "message": "note",
                "author": "Ada",
                "changes": ["ENV A=1", "CMD a", "USER b"],
                "pause": True,
                "volumes": False,
            },
        )
    ]


def test_commit_without_a_name_or_a_pause(ask, images):
    assert ask("POST", "/commit?container=web&pause=0").status == 201
    assert images.calls[0][2] == {
        "name": "", "message": "", "author": "", "changes": [], "pause": False, "volumes": False,
    }  # fmt: skip


def test_commit_with_volumes(ask, images):
    assert ask("POST", "/containers/web/commit?volumes=1").status == 201
    assert images.calls[0][:2] == ("commit", "web") and images.calls[0][2]["volumes"] is True


def test_a_saved_archive_is_one_stream_that_a_client_may_leave(dial, images):
    """A client that goes away in the middle ends the saving, not the daemon."""
    written = []

    def save(refs, out: io.RawIOBase):
        for _ in range(10_000):
            written.append(out.write(b"x" * 100_000))

    images.answers["save"] = save
    client = dial()
    client.request("GET", "/images/x/get")
    answer = client.getresponse()
    answer.read(10)
    answer.close()
    client.close()  # the fixture waits for the connection's thread to end
    assert len(written) < 10_000
