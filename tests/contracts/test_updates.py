"""A container that is made anew with other ports, mounts or environment."""

from __future__ import annotations

import socket

import pytest

from cellbox.errors import CellboxError, Conflict, InvalidArgument
from cellbox.model.container import ExecSpec, MountKind, MountSpec, PortSpec, RunSpec, Status
from cellbox.model.network import NetworkSpec

pytestmark = pytest.mark.differs(dockerd="Docker's API cannot say it")
LINE = "trap 'exit 0' TERM; echo $A >>/seen; sleep 1000 & wait"


def volume(target: str, name: str = "") -> MountSpec:
    return MountSpec(MountKind.VOLUME, target, name)


@pytest.fixture
def box(start):
    """A container that runs, notes each of its starts, and has two volumes."""
    return start(
        "sh", "-c", LINE, name="box", env=("A=1",), mounts=(volume("/one", "one"), volume("/none"))
    )


def inside(engine, *command: str) -> str:
    with engine.containers.exec("box", ExecSpec(command)) as stream:
        return b"".join(data for _, data in stream).decode()


def test_a_running_one_runs_again_and_has_what_it_wrote(engine, box):
    engine.containers.update("box", env=("A=2", "B=x y"), mounts=(volume("/two", "two"),))
    now = engine.containers.get("box")
    assert (now.id, now.status) == (box.id, Status.RUNNING) and now.pid != box.pid
    assert inside(engine, "cat", "/seen").split() == ["1", "2"]
    assert "B=x y" in inside(engine, "env")
    assert [one.name for one in now.mounts] == ["two"]
    assert engine.volumes.get("one").users == () and engine.volumes.get("two").users == (box.id,)
    engine.containers.restart("box", timeout=1)
    assert inside(engine, "cat", "/seen").split() == ["1", "2", "2"]


def test_a_paused_one_is_paused_again(engine, box):
    engine.containers.pause("box")
    engine.containers.update("box", env=("A=2",))
    assert engine.containers.get("box").status is Status.PAUSED
    engine.containers.unpause("box")
    assert inside(engine, "cat", "/seen").split() == ["1", "2"]


@pytest.mark.parametrize("ended", [False, True])
def test_one_that_does_not_run_stays_so(engine, busybox, ended):
    spec = RunSpec("busybox", ("env",), env=("A=1",), mounts=(volume("/v", "one"),), detach=True)
    engine.containers.create(spec, name="box")
    if ended:
        engine.containers.start("box")
        engine.containers.wait("box", timeout=20)
    engine.containers.update("box", env=("A=2",), mounts=())
    now = engine.containers.get("box")
    assert now.status is (Status.EXITED if ended else Status.CREATED)
    assert now.mounts == () and now.spec.env == ("A=2",)
    engine.volumes.remove("one")
    engine.containers.start("box")
    engine.containers.wait("box", timeout=20)
    last = b"".join(data for _, _, data in engine.containers.logs("box")).decode()
    assert last.count("A=2") == 1


def test_a_new_volume_is_filled_from_the_image(engine, box):
    engine.containers.update("box", mounts=(volume("/etc", "etc"), volume("/none")))
    assert "root" in inside(engine, "cat", "/etc/passwd")
    now = {one.target: one.name for one in engine.containers.get("box").mounts}
    before = {one.target: one.name for one in box.mounts}
    assert now == {"/etc": "etc", "/none": before["/none"]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"mounts": (MountSpec(MountKind.BIND, "/x", "/no/such/directory"),)},
        {"mounts": (volume("relative", "one"),)},
        {"mounts": (volume("/x", "one"), volume("/x", "two"))},
        {"env": ("=no name",)},
    ],
    ids=["a bind of nothing", "a relative path", "one path twice", "no name"],
)
def test_wrong_input_is_refused_before_it_is_stopped(engine, box, wrong):
    with pytest.raises(InvalidArgument):
        engine.containers.update("box", **wrong)
    now = engine.containers.get("box")
    assert (now.pid, now.spec, now.mounts) == (box.pid, box.spec, box.mounts)


def test_a_port_that_is_taken_leaves_the_old_one_running(engine, box):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = PortSpec(80, host_ip="127.0.0.1", host_port=taken.getsockname()[1])
        engine.networks.create(NetworkSpec("net"))
        engine.networks.connect("net", "box")
        with pytest.raises(CellboxError):
            engine.containers.update("box", ports=(port,), env=("A=2",))
    now = engine.containers.get("box")
    assert (now.status, now.spec.ports, now.spec.env) == (Status.RUNNING, (), box.spec.env)
    assert "net" in [one.network for one in now.endpoints]
    assert set(inside(engine, "cat", "/seen").split()) == {"1"}


def test_ports_and_places_in_networks(engine, start):
    engine.networks.create(NetworkSpec("net"))
    made = start(
        "httpd", "-f", "-p", "80", "-h", "/etc", name="box", network="net", stop_timeout=0.2
    )
    engine.containers.update("box", ports=(PortSpec(80, host_ip="127.0.0.1"),))
    now = engine.containers.get("box")
    assert [(one.network, one.ip, one.mac) for one in now.endpoints] == (
        [(one.network, one.ip, one.mac) for one in made.endpoints]
    )
    (port,) = now.ports
    with socket.create_connection(("127.0.0.1", port.host_port), timeout=5) as web:
        web.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
        assert web.recv(100).startswith(b"HTTP/1")
    engine.containers.update("box", ports=())
    assert engine.containers.get("box").ports == ()


def test_one_that_removes_itself_cannot_be_stopped_for_it(engine, start):
    start(name="box", auto_remove=True)
    with pytest.raises(Conflict):
        engine.containers.update("box", env=("A=2",))
    assert engine.containers.get("box").status is Status.RUNNING


def test_nothing_to_change_changes_nothing(engine, box):
    engine.containers.update("box")
    assert engine.containers.get("box").pid == box.pid
