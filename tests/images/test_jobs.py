"""Jobs as a worker is asked for them: JSON in, JSON out."""

from __future__ import annotations

import gzip
import inspect
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import zstandard

from cellbox.images import jobs
from cellbox.linux import syscalls

pytestmark = pytest.mark.root


def do(name: str, *fds: int, **args):
    answer = jobs.JOBS[name](json.loads(json.dumps(args)), list(fds))
    return json.loads(json.dumps(answer))


def test_every_job_says_what_it_takes():
    for job in jobs.JOBS.values():
        assert inspect.getdoc(job)


def test_apply_usage_pack_remove(make_tar, stream, tmp_path):
    target = tmp_path / "fs"
    applied = do("apply", stream(make_tar(("f", b"12"))), target=str(target))
    assert (applied["size"], applied["entries"], applied["owners"]) == (2, 1, 0)
    assert do("usage", path=str(target))["check"] == applied["check"]
    out = os.memfd_create("out")
    packed = do("pack", out, upper=str(target), latest=0, exclude=["x"])
    assert packed["tar_size"] == os.fstat(out).st_size
    os.close(out)
    do("remove", path=str(target))
    do("remove", path=str(target))
    assert not target.exists()


def test_apply_wants_a_new_directory(make_tar, stream, tmp_path):
    with pytest.raises(FileExistsError):
        do("apply", stream(make_tar(("f", b""))), target=str(tmp_path))


def test_limits_travel(make_tar, stream, tmp_path):
    with pytest.raises(Exception, match="entries"):
        do(
            "apply",
            stream(make_tar(("f", b""), ("g", b""))),
            target=str(tmp_path / "fs"),
            limits={"entries": 1},
        )


def test_diff_tells_names_of_any_bytes(tmp_path):
    (tmp_path / "lower").mkdir()
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper" / os.fsdecode(b"\xff")).write_bytes(b"")
    answer = do("diff", upper=str(tmp_path / "upper"), lowers=[str(tmp_path / "lower")])
    ((kind, path),) = answer["changes"]
    assert (kind, os.fsencode(path)) == ("A", b"/\xff")


def test_tree_jobs(make_tar, stream, tmp_path):
    root = os.open(tmp_path, os.O_RDONLY)
    data = stream(make_tar(("f", {"data": b"12", "uid": 5})))
    assert do("tree-unpack", root, data, path="/", owner=[1, 2])["entries"] == 1
    found = do("tree-stat", root, path="/f")
    assert (found["name"], found["size"], stat.S_ISREG(found["mode"])) == ("f", 2, True)
    assert (tmp_path / "f").stat().st_uid == 1
    out = os.memfd_create("out")
    do("tree-pack", root, out, path="/f")
    assert os.fstat(out).st_size == 2048
    os.close(out)
    os.close(root)


def test_a_confined_worker_sees_only_its_directory(make_tar, stream, tmp_path):
    fd = stream(make_tar(("f", b"12")))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = jobs.run_confined("apply", {"target": str(tmp_path / "fs")}, [fd])
            os.write(writer, json.dumps([answer["size"], sorted(os.listdir("/"))]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        answer = file.read()
    os.waitpid(pid, 0)
    assert json.loads(answer) == [2, ["f"]]
    assert (tmp_path / "fs/f").read_bytes() == b"12"


def test_with_one_id_a_layer_still_unpacks(make_tar, stream, tmp_path):
    """As the root of a user namespace into which one id is mapped, and for no device nodes."""
    data = make_tar(
        ("d", {"type": tarfile.DIRTYPE, "uid": 1000, "mode": 0o2775}),
        ("d/f", {"data": b"12", "uid": 1000, "gid": 1000, "mode": 0o4755}),
        ("l", {"type": tarfile.SYMTYPE, "linkname": "d", "uid": 1000}),
        ("null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}),
        ("fifo", {"type": tarfile.FIFOTYPE}),
        (".wh.gone", b""),
    )
    answer = in_user_namespace(
        lambda: jobs.JOBS["apply"]({"target": str(tmp_path / "fs")}, [stream(data)])
    )
    assert (answer["owners"], answer["devices"], answer["entries"]) == (3, 1, 6)
    facts = (tmp_path / "fs/d/f").stat()
    assert stat.S_IMODE(facts.st_mode) == 0o755  # set-user-ID would be for the wrong one
    assert stat.S_ISREG((tmp_path / "fs/null").stat().st_mode)
    assert stat.S_ISCHR((tmp_path / "fs/gone").lstat().st_mode)
    in_user_namespace(lambda: jobs.JOBS["remove"]({"path": str(tmp_path / "fs")}, []))
    assert not (tmp_path / "fs").exists()


def in_user_namespace(action):
    """What ``action`` returns in a child that is root of a user namespace of one id."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            for name, text in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
                with open(f"/proc/self/{name}", "w") as file:
                    file.write(text)
            os.write(writer, json.dumps(action()).encode())
        except BaseException as error:
            os.write(writer, json.dumps(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        answer = json.loads(file.read())
    os.waitpid(pid, 0)
    assert isinstance(answer, dict), answer
    return answer


ENTERED = """
import os, sys
from cellbox.images import jobs
data, out = os.open(sys.argv[2], os.O_RDONLY), os.memfd_create("out")
os.chroot(sys.argv[1])
os.chdir("/")
root = os.open("/", os.O_RDONLY)
os.write(2, b"ENTERED")
jobs.JOBS["tree-unpack"]({"path": "/"}, [root, data])
jobs.JOBS["tree-pack"]({"path": "/"}, [root, out])
for path in ("/f", "/none"):
    try:
        jobs.JOBS["tree-stat"]({"path": path}, [root])
    except Exception as error:
        os.write(1, str(error).encode())
os.write(2, b"LEFT")
os._exit(0)
"""


@pytest.mark.skipif(not shutil.which("strace"), reason="there is no strace to watch with")
@pytest.mark.parametrize("encode", [bytes, gzip.compress, zstandard.compress])
def test_inside_a_strangers_root_nothing_is_opened_by_path(make_tar, tmp_path, encode):
    """No module, codec, library or setting comes from there (CVE-2019-14271)."""
    (tmp_path / "root").mkdir()
    (tmp_path / "data").write_bytes(encode(make_tar(("f", b"x"), ("ü\udcff", b"y"))))
    command = ["strace", "-e", "trace=%file", sys.executable, "-c", ENTERED]
    done = subprocess.run(
        [*command, str(tmp_path / "root"), str(tmp_path / "data")],
        env={"PYTHONPATH": str(Path(__file__).parents[2] / "runtime"), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        errors="replace",
    )
    if "ptrace" in done.stderr and "ENTERED" not in done.stderr:
        pytest.skip("strace may not trace here")
    assert "No such path" in done.stdout, done.stderr
    inside = done.stderr.partition("ENTERED")[2].partition("LEFT")[0].splitlines()
    calls = [line for line in inside if re.match(r"\w+\(", line)]
    assert calls
    by_path = [line for line in calls if re.match(r'\w+\((AT_FDCWD|")', line)]
    assert by_path == []
