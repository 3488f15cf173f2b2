"""The image ``host``: what is in it, and above all what is not."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cellbox.images import host
from cellbox.images.host import HostImage, Tree
from cellbox.images.overlay import OverlaySnapshotter


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """A host's /etc with secrets in it."""
    path = tmp_path / "etc"
    for folder in ("ssl/certs", "ssl/private", "ssh", "pki/tls/private", "skel", "python3"):
        (path / folder).mkdir(parents=True)
    files = {
        "passwd": "root:$6$hash:0:0:root:/root:/bin/bash\nwww:x:33:33::/:/bin/sh\n"
        "alice:x:1000:1000:Alice:/home/alice:/bin/bash\nnobody:x:65534:65534::/:/bin/false\nbad\n",
        "group": "root:x:0:\nsudo:x:27:alice,bob\nalice:x:1000:\n",
        "shadow": "root:$6$hash:1::::::\n",
        "gshadow": "x",
        "machine-id": "0123",
        "hosts": "10.0.0.1 internal",
        "environment": "TOKEN=secret",
        "ssh/ssh_host_rsa_key": "secret",
        "ssl/private/server.key": "secret",
        "ssl/certs/ca.pem": "certificate",
        "ssl/certs/server-key.pem": "secret",
        "ssl/openssl.cnf": "config",
        "pki/tls/private/x.key": "secret",
        "nsswitch.conf": "passwd: files",
        "profile": "umask 022",
        "python3/site": "x",
        "krb5.keytab": "secret",
    }
    for name, text in files.items():
        (path / name).write_text(text)
    (path / "profile").chmod(0o600)
    (path / "localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    return path


@pytest.fixture
def image(root: Path, etc: Path, tmp_path: Path) -> HostImage:
    (tmp_path / "usr").mkdir()
    (tmp_path / "venv").mkdir(mode=0o750)
    trees = [Tree("/usr", str(tmp_path / "usr")), Tree("/home/u/venv", str(tmp_path / "venv"))]
    return HostImage(root, trees, str(etc))


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_only_what_is_listed_is_copied(image):
    found = {name for name in names(image.skeleton) if name.startswith("etc/")}
    assert found == {
        "etc/group",
        "etc/localtime",
        "etc/mtab",
        "etc/nsswitch.conf",
        "etc/passwd",
        "etc/python3",
        "etc/python3/site",
        "etc/skel",
        "etc/ssl",
        "etc/ssl/certs",
        "etc/ssl/certs/ca.pem",
        "etc/ssl/openssl.cnf",
    }


def test_no_secret_and_no_person(image):
    for path in image.skeleton.rglob("*"):
        if path.is_file() and not path.is_symlink():
            text = path.read_text()
            assert not any(word in text for word in ("secret", "hash", "alice", "internal")), path


def test_accounts(image):
    passwd = (image.skeleton / "etc/passwd").read_text().splitlines()
    assert passwd == [
        "root:x:0:0:root:/root:/bin/bash",
        "www:x:33:33::/:/bin/sh",
        "nobody:x:65534:65534::/:/bin/false",
    ]
    assert (image.skeleton / "etc/group").read_text() == "root:x:0:\nsudo:x:27:\n"


def test_the_tree_of_folders(image):
    skeleton = image.skeleton
    for name, mode in {"tmp": 0o1777, "var/tmp": 0o1777, "root": 0o700, "proc": 0o555}.items():
        assert stat.S_IMODE((skeleton / name).stat().st_mode) == mode
    assert os.listdir(skeleton / "root") == os.listdir(skeleton / "home/u/venv") == []
    for name in ("bin", "lib64"):
        if os.path.islink(f"/{name}"):
            assert os.readlink(skeleton / name) == os.readlink(f"/{name}")
    assert (skeleton / "etc").stat().st_mtime == 0


def test_a_skeleton_is_named_by_what_is_in_it(image, root, etc):
    again = HostImage(root, image.trees, str(etc))
    assert again.skeleton == image.skeleton
    (etc / "nsswitch.conf").write_text("passwd: db")
    changed = HostImage(root, image.trees, str(etc))
    assert changed.skeleton != image.skeleton
    assert image.skeleton.exists()
    assert len(os.listdir(root / "host")) == 2


def test_facts(image, root, etc):
    facts = image.facts()
    assert facts.tags == ("host:latest",)
    assert facts.layers == ()
    assert facts.id == HostImage(root, image.trees, str(etc)).facts().id
    assert facts.id != HostImage(root, image.trees[:1], str(etc)).facts().id
    env = dict(item.split("=", 1) for item in facts.config.env)
    assert env["PATH"].split(":")[0] == os.path.join(sys.prefix, "bin")
    assert "/usr/bin" in env["PATH"].split(":")
    assert facts.config.command[0] in ("/bin/bash", "/bin/sh")


def test_mounts(image, tmp_path):
    writable = tmp_path / "w"
    writable.mkdir()
    image.prepare(writable)
    root, usr, venv = image.mounts(writable)
    assert [mount.target for mount in (root, usr, venv)] == ["/", "/usr", "/home/u/venv"]
    assert root.lowers == (str(image.skeleton),)
    assert venv.lowers == (str(tmp_path / "venv"),)
    for mount in (root, usr, venv):
        assert mount.kind == "overlay" and mount.idmap
        assert Path(mount.upper).is_dir() and Path(mount.work).is_dir()
        assert Path(mount.upper).parent == Path(mount.work).parent
    assert len({mount.upper for mount in (root, usr, venv)}) == 3
    assert stat.S_IMODE(Path(venv.upper).stat().st_mode) == 0o750
    assert [part.target for part in image.parts(writable)] == ["/", "/usr", "/home/u/venv"]


def test_a_tree_that_contains_the_store_is_bound_and_the_store_hidden(tmp_path, etc):
    outer = tmp_path / "outer"
    store = outer / "var/store"
    store.mkdir(parents=True)
    trees = [host._tree(str(outer), str(store))]
    assert trees[0].store == str(store)
    image = HostImage(store, trees, str(etc))
    writable = tmp_path / "w"
    writable.mkdir()
    image.prepare(writable)
    root, bind, hidden = image.mounts(writable)
    assert (bind.kind, bind.source, bind.flags) == ("bind", str(outer), ("ro",))
    assert (hidden.kind, hidden.target) == ("tmpfs", str(store))
    assert "ro" in hidden.flags
    assert [part.target for part in image.parts(writable)] == ["/"]
    assert root.target == "/"


class TestFindTrees:
    @pytest.fixture
    def prefixes(self, monkeypatch):
        def set_to(prefix: str, base: str) -> list[Tree]:
            for name in ("prefix", "exec_prefix"):
                monkeypatch.setattr(sys, name, prefix)
            for name in ("base_prefix", "base_exec_prefix"):
                monkeypatch.setattr(sys, name, base)
            return [tree for tree in host.find_trees(Path("/var/lib/nowhere"))]

        return set_to

    def test_this_machine(self, root):
        targets = [tree.target for tree in host.find_trees(root)]
        assert "/usr" in targets
        assert len(targets) == len(set(targets))
        executable = os.path.realpath(sys.executable)
        assert any(os.path.commonpath((path, executable)) == path for path in targets)
        assert not {"/", "/home", "/root", "/tmp"} & set(targets)

    def test_the_system_python_needs_usr_only(self, prefixes):
        trees = prefixes("/usr", "/usr")
        assert "/usr" in [tree.target for tree in trees]
        assert all(tree.target.lstrip("/") in ("usr", *host._USR_LINKS) for tree in trees)

    def test_an_environment_and_its_base(self, prefixes, tmp_path):
        (tmp_path / "venv").mkdir()
        (tmp_path / "base").mkdir()
        trees = prefixes(str(tmp_path / "venv"), str(tmp_path / "base"))
        found = [tree.target for tree in trees]
        assert {str(tmp_path / "venv"), str(tmp_path / "base")} <= set(found)

    def test_an_environment_behind_a_link_is_at_both_names(self, prefixes, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        trees = {tree.target: tree.source for tree in prefixes(str(tmp_path / "link"), "/usr")}
        assert trees[str(tmp_path / "link")] == trees[str(tmp_path / "real")]
        assert trees[str(tmp_path / "link")] == str(tmp_path / "real")

    @pytest.mark.parametrize("private", ["/", "/root", "/home", "/tmp"])
    def test_a_home_is_not_a_python(self, prefixes, private):
        assert private not in [tree.target for tree in prefixes(private, "/usr")]


RUN = """
import json, os, sys
from cellbox.linux import syscalls
syscalls.unshare(syscalls.CLONE_NEWNS)
syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
root, executable, code = sys.argv[2:5]
for target, lower, upper, work in json.loads(sys.argv[1]):
    options = f"lowerdir={lower},upperdir={upper},workdir={work},userxattr"
    syscalls.mount("overlay", root + target, "overlay", 0, options)
os.chroot(root)
os.chdir("/")
os.execv(executable, [executable, "-c", code])
"""
CODE = """
import json, os, ssl, sys
open("/usr/written", "w").close()
print(json.dumps([sys.prefix, os.listdir("/home"), os.path.exists("/etc/shadow")]))
"""


@pytest.mark.root
def test_this_python_runs_in_it_and_the_host_stays_as_it_is(root, work, tmp_path):
    if OverlaySnapshotter(work).usable(tmp_path):
        pytest.skip("overlayfs does not work on this file system")
    image = HostImage(root)
    if any(tree.store for tree in image.trees):
        pytest.skip("the temporary directory lies in a tree of the host")
    writable, target = tmp_path / "w", tmp_path / "target"
    writable.mkdir()
    target.mkdir()
    image.prepare(writable)
    mounts = [
        [mount.target, mount.lowers[0], mount.upper, mount.work] for mount in image.mounts(writable)
    ]
    arguments = [json.dumps(mounts), str(target), sys.executable, CODE]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        env={"PYTHONPATH": str(Path(__file__).parents[2] / "runtime")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    prefix, homes, shadow = json.loads(done.stdout)
    assert prefix == sys.prefix
    assert not shadow
    assert not os.path.exists("/usr/written")
    usr = next(part for part in image.parts(writable) if part.target == "/usr")
    assert (usr.upper / "written").exists()
    assert bool(homes) == any(tree.target.startswith("/home/") for tree in image.trees)
