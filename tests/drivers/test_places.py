"""Where programs are looked for, and what the files there say."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from cellbox.drivers import places
from cellbox.drivers.places import DOCKER, Place, Tls
from cellbox.errors import InvalidArgument


@pytest.fixture
def folder(tmp_path):
    """A folder with one of each."""
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
        one.bind(str(tmp_path / "plain.sock"))
        (tmp_path / "deep").mkdir()
        other.bind(str(tmp_path / "deep" / "deep.sock"))
        (tmp_path / "no.sock").write_text("no socket")
        (tmp_path / "text.spec").write_text("tcp://127.0.0.1:7777\n")
        told = {
            "Name": "other",
            "Addr": "https://host.example:1",
            "TLSConfig": {
                "InsecureSkipVerify": False,
                "CAFile": "/ca",
                "CertFile": "/cert",
                "KeyFile": "/key",
            },
        }
        (tmp_path / "tls.json").write_text(json.dumps(told))
        (tmp_path / "bad.spec").write_text("gopher://x")
        (tmp_path / "worse.json").write_text('{"Addr": 5}')
        (tmp_path / "notes.txt").write_text("nothing")
        yield tmp_path


def test_all_forms_are_found(folder):
    found = dict(places.all_places([folder, Path("/none/at/all")]))
    assert sorted(found) == ["bad", "deep", "plain", "text", "tls", "worse"]
    assert places.named("plain", [folder]).address == f"unix://{folder}/plain.sock"
    assert places.named("deep", [folder]).address == f"unix://{folder}/deep/deep.sock"
    assert places.named("text", [folder]).address == "tcp://127.0.0.1:7777"
    told = places.named("tls", [folder])
    assert (told.name, told.address) == ("tls", "https://host.example:1")
    assert told.tls == Tls("/ca", "/cert", "/key")
    assert places.named("nobody", [folder]) is None
    assert places.named("../plain", [folder]) is None


@pytest.mark.parametrize(("name", "told"), [("bad", "no address"), ("worse", "cannot unmarshal")])
def test_a_file_that_says_nonsense_is_named(folder, name, told):
    with pytest.raises(InvalidArgument, match=f"{name}.* describes no plugin: .*{told}"):
        places.named(name, [folder])


def test_the_first_folder_wins(folder, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "text.spec").write_text("unix:///mine.sock")
    assert places.named("text", [mine, folder]).address == "unix:///mine.sock"
    assert [name for name, _ in places.all_places([mine, folder])].count("text") == 1


def test_the_users_folders_come_first(tmp_path):
    found = places.folders(tmp_path, {"CELLBOX_PLUGIN_PATH": "/a:relative:/b"})
    assert [str(one) for one in found] == ["/a", "/b", str(tmp_path), *DOCKER]
    assert [str(one) for one in places.folders(tmp_path, {})] == [str(tmp_path), *DOCKER]


@pytest.mark.parametrize(
    ("told", "path"),
    [("/data/x", "/prop/x"), ("/data", "/prop"), ("/database", "/rootfs/database"),
     ("/mnt/v", "/rootfs/mnt/v")],
)  # fmt: skip
def test_paths_of_one_in_a_container(told, path):
    one = Place("p", "unix:///x", "x", roots=(("/data", "/prop"), ("/", "/rootfs")))
    assert one.path(told) == path
    assert Place("p", "unix:///x", "x").path(told) == told
