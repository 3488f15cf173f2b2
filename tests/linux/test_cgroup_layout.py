"""Finding control groups in the files of machines of all kinds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cellbox.linux import cgroup_layout
from cellbox.linux.cgroup_layout import Layout, Mounts, choose, read_mounts

HYBRID = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
SESSION = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/jupyter.scope\n"


def test_hybrid_machines_have_their_controllers_on_v1() -> None:
    mounts = read_mounts(HYBRID, "4:memory:/x\n0::/\n")
    both = "/sys/fs/cgroup/cpu,cpuacct"
    assert mounts.v1 == {"cpu": both, "cpuacct": both, "memory": "/sys/fs/cgroup/memory"}
    assert (mounts.v2, mounts.own) == ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified")
    assert mounts.version == 1


def test_the_unified_tree() -> None:
    mounts = read_mounts(UNIFIED, SESSION)
    assert mounts.version == 2
    assert mounts.own.endswith("/user@1000.service/app.slice/jupyter.scope")


@pytest.mark.parametrize(
    ("root", "own", "directory"),
    [
        ("/", "0::/\n", "/c"),
        ("/", "0::/a/b\n", "/c/a/b"),
        ("/docker/1", "0::/docker/1/x\n", "/c/x"),
        ("/docker/1", "0::/docker/1\n", "/c"),
        ("/docker/1", "0::/docker/12\n", "/c/docker/12"),
        ("/", "0::/../other\n", "/c"),
        ("/", "", "/c"),
    ],
)
def test_where_this_process_is(root: str, own: str, directory: str) -> None:
    line = f"30 23 0:26 {root} /c rw - cgroup2 cgroup2 rw\n"
    assert read_mounts(line, own).own == directory


def test_lines_that_say_nothing() -> None:
    text = "\n - \nx - cgroup\n1 2 3 / /my\\040groups rw - cgroup cgroup rw,pids\n"
    assert read_mounts(text, "") == Mounts({"pids": "/my groups"})
    assert read_mounts("", "").version == 0


def test_no_control_groups_at_all() -> None:
    found = choose(Mounts())
    assert (found.version, found.controllers) == (0, ())
    assert found.remedy.startswith("mount the control groups: mount ")


def writable(paths: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup_layout, "_writable", lambda path: path in paths)


def test_v1_needs_a_hierarchy_that_we_may_write(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = Mounts({"memory": "/c/memory", "pids": "/c/pids", "cpu": "/c/cpu"})
    writable({"/c/memory", "/c/pids/cellbox"}, monkeypatch)
    found = choose(mounts)
    assert found.directories == {"memory": "/c/memory/cellbox", "pids": "/c/pids/cellbox"}
    assert (found.controllers, found.remedy) == (("memory", "pids"), "")
    writable(set(), monkeypatch)
    assert choose(mounts) == Layout(1, {}, cgroup_layout._V1)


def delegate(directory: Path, controllers: str) -> set[str]:
    """Make ``directory`` look delegated; the paths that are to count as writable."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cgroup.controllers").write_text(controllers)
    names = ("", "/cgroup.procs", "/cgroup.subtree_control")
    return {f"{directory}{name}" for name in names}


def test_v2_uses_the_topmost_delegated_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, own = tmp_path / "user@1000.service", tmp_path / "user@1000.service/app/jupyter"
    paths = delegate(service, "cpu memory pids\n") | delegate(service / "app", "memory")
    writable(paths | delegate(own, "memory"), monkeypatch)
    found = choose(Mounts(v2=str(tmp_path), own=str(own)))
    assert found.directories["memory"] == f"{service}/cellbox"
    assert found.controllers == ("memory", "cpu", "cpuacct", "pids", "freezer")
    assert found.remedy == ""


def test_v2_says_how_to_get_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "session"
    writable(delegate(own, "memory pids"), monkeypatch)
    found = choose(Mounts(v2=str(tmp_path), own=str(own)))
    assert "cpu" not in found.directories
    assert "Delegate=cpu" in found.remedy
    writable(set(), monkeypatch)
    found = choose(Mounts(v2=str(tmp_path), own=str(own)))
    assert found.controllers == ()
    assert "systemd-run --user --scope" in found.remedy


def test_a_group_above_one_that_is_not_ours_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process cannot be moved across a directory that somebody else holds."""
    own = tmp_path / "held" / "own"
    writable(delegate(tmp_path, "memory") | delegate(own, "memory"), monkeypatch)
    found = choose(Mounts(v2=str(tmp_path), own=str(own)))
    assert found.directories["memory"] == f"{own}/cellbox"


def test_this_machine() -> None:
    found = cgroup_layout.find()
    assert found.version in (0, 1, 2)
    assert bool(found.directories) or found.remedy
    for path in found.directories.values():
        assert os.path.isdir(os.path.dirname(path))
