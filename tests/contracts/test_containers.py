"""The life of a container: what each verb does, in which status it may be said, what is refused."""

from __future__ import annotations

import threading
import time

import pytest

from cellbox.errors import AlreadyExists, InvalidArgument, NotFound, StartError, WrongState
from cellbox.model.container import (
    ExecSpec,
    HealthCheck,
    MountKind,
    MountSpec,
    RestartPolicy,
    RunSpec,
    Security,
    Status,
    Ulimit,
)

TRAP = 'trap "exit 7" TERM; echo ready; while :; do sleep 0.02; done'


def ready(engine, id, text=b"ready"):
    """A condition: has the container written ``text``?"""
    return lambda: any(text in data for _, _, data in engine.containers.logs(id))


# Making and naming ------------------------------------------------------------------------------


def test_a_new_container_is_created_and_does_not_run(engine, busybox):
    made = engine.containers.create(RunSpec("busybox", ("true",)), name="web")
    assert (made.name, made.status, made.pid, made.image_id) == ("web", "created", 0, busybox.id)
    assert made.command == ("true",)
    assert engine.containers.list() == []
    assert engine.containers.list(all=True) == [made]


def test_without_its_image_nothing_is_made(engine):
    with pytest.raises(NotFound, match="No such image: nosuch:latest"):
        engine.containers.create(RunSpec("nosuch"))
    assert engine.containers.list(all=True) == []


def test_a_name_in_use_is_refused_in_dockers_words(engine, busybox):
    first = engine.containers.create(RunSpec("busybox"), name="web")
    sentence = f'Conflict. The container name "/web" is already in use by container "{first.id}"'
    with pytest.raises(AlreadyExists, match=sentence):
        engine.containers.create(RunSpec("busybox"), name="web")


def test_a_bad_name_is_refused_in_dockers_words(engine, busybox):
    with pytest.raises(InvalidArgument, match=r"Invalid container name \(a b\)"):
        engine.containers.create(RunSpec("busybox"), name="a b")


def test_a_container_is_found_by_name_id_and_prefix(engine, busybox):
    made = engine.containers.create(RunSpec("busybox"), name="web")
    for ref in ("web", "/web", made.id, made.short_id, made.id[:20]):
        assert engine.containers.get(ref).id == made.id
    for ref in ("nosuch", "we", "", made.id + "0"):
        with pytest.raises(NotFound, match="No such container: "):
            engine.containers.get(ref)


def test_a_prefix_of_several_is_refused(engine, busybox):
    firsts = {}
    while True:  # sixteen digits: at most seventeen containers
        id = engine.containers.create(RunSpec("busybox")).id
        if id[0] in firsts:
            break
        firsts[id[0]] = id
    with pytest.raises(InvalidArgument, match="Multiple IDs found"):
        engine.containers.get(id[0])


def test_rename(engine, start):
    start(name="web")
    engine.containers.create(RunSpec("busybox"), name="db")
    engine.containers.update("web", name="front")
    assert engine.containers.get("front").status is Status.RUNNING
    with pytest.raises(NotFound):
        engine.containers.get("web")
    with pytest.raises(AlreadyExists):
        engine.containers.update("front", name="db")
    with pytest.raises(InvalidArgument):
        engine.containers.update("front", name="front")
    with pytest.raises(InvalidArgument):
        engine.containers.update("front", name="a b")
    assert engine.containers.get("front").name == "front"


# Starting and ending ----------------------------------------------------------------------------


def test_a_started_one_runs_and_starting_it_again_does_nothing(engine, start):
    running = start(name="web")
    assert running.status is Status.RUNNING and running.pid > 0 and running.started
    engine.containers.start("web")
    assert engine.containers.get("web").pid == running.pid


def test_the_exit_code_is_kept(engine, run):
    ran = run("sh", "-c", "exit 3")
    ended = engine.containers.get(ran.id)
    assert (ran.code, ended.status, ended.exit_code, ended.pid) == (3, "exited", 3, 0)
    assert ended.created <= ended.started
    assert ended.started <= ended.finished + 0.01  # dockerd's two clocks differ by a little


def test_death_by_a_signal_is_128_and_more(run):
    assert run("sh", "-c", "kill -KILL $$", init=True).code == 137


def test_one_that_has_ended_starts_again_with_its_files(engine, run):
    ran = run("sh", "-c", "echo x >> /log; exit $(wc -l < /log)")
    assert ran.code == 1
    engine.containers.start(ran.id)
    assert engine.containers.wait(ran.id, timeout=10) == 2


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (("nosuch",), 127, "not found"),
        (("/no/such",), 127, "no such file or directory"),
        (("/etc/passwd",), 126, "permission denied"),
        (("/etc",), 126, "permission denied|is a directory"),
    ],
)
def test_what_cannot_be_run_is_told_by_dockers_codes(engine, busybox, command, code, words):
    id = engine.containers.create(RunSpec("busybox", command)).id
    with pytest.raises(StartError, match=f"(?i){words}") as caught:
        engine.containers.start(id)
    assert caught.value.exit_code == code
    found = engine.containers.get(id)
    assert found.exit_code == code and found.error
    engine.containers.remove(id)


def test_stop_lets_it_end_in_order(engine, start, until):
    id = start("sh", "-c", TRAP).id
    until(ready(engine, id))
    engine.containers.stop(id)
    assert engine.containers.get(id).exit_code == 7
    engine.containers.stop(id)  # nothing to do


def test_stop_kills_what_does_not_listen(engine, start, until):
    id = start("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.02; done").id
    until(ready(engine, id))
    engine.containers.stop(id, timeout=0.1)
    assert engine.containers.get(id).exit_code == 137


@pytest.mark.parametrize("how", ["spec", "argument"])
@pytest.mark.differs(dockerd="before API 1.42 there is no such choice")
def test_the_signal_that_stops_can_be_chosen(engine, start, until, how):
    script = "trap 'exit 9' USR2; echo ready; while :; do sleep 0.02; done"
    id = start("sh", "-c", script, stop_signal="USR2" if how == "spec" else "").id
    until(ready(engine, id))
    engine.containers.stop(id, signal="SIGUSR2" if how == "argument" else "")
    assert engine.containers.get(id).exit_code == 9


def test_kill_sends_any_signal(engine, start, until):
    id = start("sh", "-c", "trap 'echo hup' HUP; echo ready; while :; do sleep 0.02; done").id
    until(ready(engine, id))
    engine.containers.kill(id, signal="HUP")
    until(ready(engine, id, b"hup"))
    assert engine.containers.get(id).status is Status.RUNNING
    with pytest.raises(InvalidArgument, match="Invalid signal: NOSUCH"):
        engine.containers.kill(id, signal="NOSUCH")
    engine.containers.kill(id)
    assert engine.containers.wait(id, timeout=10) == 137


def test_pause_holds_everything(engine, start, until):
    id = start("sh", "-c", "while :; do echo tick; sleep 0.02; done").id
    until(ready(engine, id, b"tick"))
    engine.containers.pause(id)
    assert engine.containers.get(id).status is Status.PAUSED
    before = len(list(engine.containers.logs(id)))
    engine.containers.unpause(id)
    until(lambda: len(list(engine.containers.logs(id))) > before)
    assert engine.containers.get(id).status is Status.RUNNING


def test_a_paused_one_can_be_stopped(engine, start):
    id = start().id
    engine.containers.pause(id)
    engine.containers.stop(id, timeout=0)
    assert engine.containers.get(id).status is Status.EXITED


def test_wait(engine, start):
    id = start("sh", "-c", "sleep 0.3; exit 5").id
    with pytest.raises(TimeoutError):
        engine.containers.wait(id, timeout=0.01)
    assert engine.containers.wait(id, timeout=10) == 5
    assert engine.containers.wait(id) == 5


# What a status does not allow --------------------------------------------------------------------

REFUSED = {
    "created": {"kill", "pause", "unpause", "exec"},
    "running": {"unpause", "remove"},
    "paused": {"start", "pause", "exec", "remove"},
    "exited": {"kill", "pause", "unpause", "exec"},
}


@pytest.mark.parametrize("status", REFUSED)
def test_verbs_that_a_status_does_not_allow(engine, busybox, status):
    containers = engine.containers
    id = containers.create(RunSpec("busybox", ("sleep", "1000"), detach=True), name="web").id
    if status != "created":
        containers.start(id)
    if status == "paused":
        containers.pause(id)
    elif status == "exited":
        containers.kill(id)
        containers.wait(id)
    verbs = {
        "start": containers.start,
        "kill": containers.kill,
        "pause": containers.pause,
        "unpause": containers.unpause,
        "exec": lambda ref: containers.exec(ref, ExecSpec(("true",))),
        "remove": containers.remove,
    }
    for verb in REFUSED[status]:
        with pytest.raises(WrongState, match=f"web|{id}|start a paused container"):
            verbs[verb](id)
        assert containers.get(id).status == status


@pytest.mark.differs(dockerd="20.10 has other sentences")
def test_the_sentences_that_clients_know(engine, start):
    start(name="web")
    with pytest.raises(WrongState, match='cannot remove container "web".* stop the container'):
        engine.containers.remove("web")
    engine.containers.kill("web")
    engine.containers.wait("web")
    with pytest.raises(WrongState, match="Container web is not running"):
        engine.containers.kill("web")


# Taking away ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["created", "exited"])
def test_remove(engine, busybox, status):
    id = engine.containers.create(RunSpec("busybox", ("true",)), name="web").id
    if status == "exited":
        engine.containers.start(id)
        engine.containers.wait(id)
    engine.containers.remove("web")
    assert engine.containers.list(all=True) == []
    for verb in (engine.containers.get, engine.containers.remove, engine.containers.logs):
        with pytest.raises(NotFound, match=f"No such container: {id}"):
            verb(id)
    assert engine.containers.create(RunSpec("busybox"), name="web").id != id


@pytest.mark.parametrize("paused", [False, True])
def test_force_kills_what_runs(engine, start, paused):
    id = start().id
    if paused:
        engine.containers.pause(id)
    engine.containers.remove(id, force=True)
    assert engine.containers.list(all=True) == []


def test_one_that_removes_itself(engine, run, until):
    ran = run("sh", "-c", "echo hi; exit 4", auto_remove=True)
    assert (ran.code, ran.out) == (4, "hi\n")
    with pytest.raises(NotFound):
        engine.containers.get(ran.id)
    assert engine.containers.list(all=True) == []


def test_one_that_removes_itself_tells_its_code_to_who_waits(engine, start):
    id = start("sh", "-c", "sleep 0.2; exit 6", auto_remove=True).id
    assert engine.containers.wait(id, timeout=10) == 6
    with pytest.raises(NotFound):
        engine.containers.logs(id)


# Restarts, health, init -------------------------------------------------------------------------


def test_on_failure_starts_again_so_many_times(engine, start):
    id = start("sh", "-c", "exit 3", restart=RestartPolicy("on-failure", 2)).id
    assert engine.containers.wait(id, timeout=20) == 3
    assert engine.containers.get(id).restarts == 2


def test_on_failure_leaves_success_alone(engine, start):
    id = start("true", restart=RestartPolicy("on-failure")).id
    assert engine.containers.wait(id, timeout=10) == 0
    assert engine.containers.get(id).restarts == 0


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
def test_always_goes_on_until_it_is_stopped(engine, start, until, policy):
    id = start("sleep", "0.01", restart=RestartPolicy(policy)).id
    until(lambda: engine.containers.get(id).restarts >= 2)
    engine.containers.stop(id)
    assert engine.containers.get(id).status is Status.EXITED
    engine.containers.remove(id)


def test_a_policy_can_be_changed_while_it_runs(engine, start, until):
    id = start("sh", "-c", "sleep 0.2; exit 1", restart=RestartPolicy("always")).id
    engine.containers.update(id, restart=RestartPolicy("no"))
    assert engine.containers.get(id).spec.restart == RestartPolicy("no")
    assert engine.containers.wait(id, timeout=10) == 1


@pytest.mark.parametrize(("command", "status"), [("true", "healthy"), ("false", "unhealthy")])
def test_health(engine, start, until, command, status):
    check = HealthCheck(("CMD", command), interval=0.02, timeout=5.0, retries=2)
    id = start(health=check).id
    until(lambda: (engine.containers.get(id).health or check) and True)
    until(lambda: (h := engine.containers.get(id).health) and h.status == status)
    found = engine.containers.get(id).health
    assert found.log[-1]["exit_code"] == (0 if command == "true" else 1)
    assert found.failing_streak >= (0 if command == "true" else 2)


def checked(*command: str) -> HealthCheck:
    return HealthCheck(("CMD", *command), interval=0.05, timeout=5.0, retries=1)


LIVES = "echo up; trap 'echo bye; exit 0' TERM; sleep 1000 & wait"


@pytest.mark.differs(dockerd="it has no such policy")
def test_an_unhealthy_one_is_started_again(engine, start, until):
    """It is asked to end as it wants to be asked, and its end counts as a failure."""
    line = "rm -f /sick; " + LIVES
    policy = RestartPolicy("on-unhealthy")
    id = start("sh", "-c", line, health=checked("test", "!", "-e", "/sick"), restart=policy).id
    made = engine.containers.get(id)
    assert made.spec.restart == policy
    until(lambda: (h := engine.containers.get(id).health) and h.status == "healthy")
    with engine.containers.exec(id, ExecSpec(("touch", "/sick"))) as stream:
        stream.wait(20)
    until(lambda: engine.containers.get(id).restarts == 1)
    until(lambda: engine.containers.get(id).status is Status.RUNNING)
    until(lambda: (h := engine.containers.get(id).health) and h.status == "healthy")
    written = [data for _, _, data in engine.containers.logs(id)]
    assert written == [b"up\n", b"bye\n", b"up\n"]
    told = {"container": [id]}
    events = engine.events(since=made.created, until=time.time(), filters=told)
    actions = [one.action for one in events if not one.action.startswith("exec")]
    at = actions.index("health_status: unhealthy")
    assert actions[at + 1 : at + 3] == ["die", "start"]
    engine.containers.stop(id)
    assert engine.containers.get(id).status is Status.EXITED


@pytest.mark.differs(dockerd="it has no such policy")
def test_an_unhealthy_one_is_started_again_so_often(engine, start, until):
    policy = RestartPolicy("on-unhealthy", 2)
    id = start("sh", "-c", LIVES, health=checked("false"), restart=policy).id
    until(lambda: engine.containers.get(id).restarts == 2)
    until(lambda: (h := engine.containers.get(id).health) and h.failing_streak > 3)
    now = engine.containers.get(id)
    assert (now.status, now.health.status, now.restarts) == (Status.RUNNING, "unhealthy", 2)
    failing = start("sh", "-c", "exit 3", restart=RestartPolicy("on-unhealthy", 1)).id
    assert engine.containers.wait(failing, timeout=20) == 3
    assert engine.containers.get(failing).restarts == 1


@pytest.mark.differs(dockerd="it has no such policy")
def test_one_that_does_not_end_for_being_unhealthy_is_killed(engine, start, until):
    policy = RestartPolicy("on-unhealthy", 1)
    how = {"restart": policy, "stop_timeout": 0.2, "health": checked("false")}
    id = start("sh", "-c", "trap '' TERM; while :; do sleep 1000; done", **how).id
    until(lambda: engine.containers.get(id).restarts == 1)


def test_init_reaps_orphans(engine, start, until):
    script = "(sleep 0.05 & ) ; (sleep 0.05 & ) ; exec sleep 1000"
    id = start("sh", "-c", script, init=True).id

    def states():
        with engine.containers.exec(id, ExecSpec(("ps", "-o", "stat,comm"))) as stream:
            return b"".join(data for _, data in stream).decode()

    until(lambda: states().count("sleep") == 1)
    assert "Z" not in states().replace("STAT", "")


# What a container is given -----------------------------------------------------------------------


def test_what_was_asked_for_arrives(run):
    ran = run(
        "sh",
        "-c",
        "echo $A $(pwd) $(id -u):$(id -g) $(hostname) $(ulimit -n)",
        env=("A=1",),
        workdir="/srv",
        user="guest",
        hostname="box",
        ulimits=(Ulimit("nofile", 77, 77),),
    )
    assert ran.out == "1 /srv 405:100 box 77\n"


def test_the_environment_is_dockers_and_nothing_else(run, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    ran = run("env")
    names = {line.partition("=")[0] for line in ran.out.splitlines()}
    assert names == {"PATH", "HOSTNAME", "HOME"}


def test_entrypoint_and_command(engine, run, busybox):
    assert run("a", "b", entrypoint=("echo", "-n")).out == "a b"
    assert engine.containers.create(RunSpec("busybox")).command == ("sh",)


def test_without_any_command_nothing_is_made(engine, busybox_tar):
    with busybox_tar.open("rb") as source:
        engine.images.import_(source, name="mute")
    with pytest.raises(InvalidArgument, match="No command specified"):
        engine.containers.create(RunSpec("mute"))
    assert engine.containers.list(all=True) == []


def test_mounts(run, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "in").write_text("from outside\n")
    mounts = (
        MountSpec(MountKind.BIND, "/h", str(shared)),
        MountSpec(MountKind.BIND, "/ro", str(shared), read_only=True),
        MountSpec(MountKind.TMPFS, "/t/u", size=1 << 20),
    )
    ran = run("sh", "-c", "cat /h/in; echo o > /h/out; touch /ro/x; df /t/u", mounts=mounts)
    assert ran.out.startswith("from outside\n") and "1024" in ran.out
    assert "Read-only file system" in ran.err
    assert (shared / "out").read_text() == "o\n"


def test_a_missing_bind_source_is_refused_in_dockers_words(engine, busybox, tmp_path):
    spec = RunSpec("busybox", mounts=(MountSpec(MountKind.BIND, "/h", str(tmp_path / "absent")),))
    with pytest.raises(InvalidArgument, match="bind source path does not exist: .*/absent"):
        engine.containers.create(spec)


def test_a_read_only_root(run):
    ran = run("touch", "/x", security=Security(read_only=True))
    assert ran.code == 1 and "Read-only file system" in ran.err


def test_a_place_to_mount_on_can_be_entered_by_everybody(run):
    ran = run(
        "touch", "/data/deep/f", user="guest", mounts=(MountSpec(MountKind.TMPFS, "/data/deep"),)
    )
    assert (ran.code, ran.err) == (0, "")


# Lists ------------------------------------------------------------------------------------------


@pytest.fixture
def zoo(engine, start, run):
    """Four containers: one created, one exited with 3, one running, one paused; by name."""
    new = RunSpec("busybox", labels={"tier": "a"}, network="none")
    old = RunSpec("busybox", ("sh", "-c", "exit 3"), network="none")
    made = {"new": engine.containers.create(new, name="new")}
    made["old"] = engine.containers.create(old, name="old")
    engine.containers.start("old")
    engine.containers.wait("old")
    made["up"] = start(name="up", labels={"tier": "b", "env": "x"}, network="none")
    scratch = MountSpec(MountKind.TMPFS, "/scratch")
    made["held"] = start(name="held", mounts=(scratch,), network="none")
    engine.containers.pause("held")
    return made


def names(engine, all=True, **filters):
    return [one.name for one in engine.containers.list(all=all, filters=filters or None)]


def test_lists_are_newest_first_and_filtered(engine, zoo, busybox):
    assert names(engine) == ["held", "up", "old", "new"]
    assert names(engine, all=False) == ["held", "up"]
    assert names(engine, status=["exited", "paused"]) == ["held", "old"]
    assert names(engine, all=False, status=["exited"]) == ["old"]
    assert names(engine, all=False, exited=["3"]) == ["old"]
    assert names(engine, exited=["0"]) == []
    assert names(engine, name=["l"]) == ["held", "old"]
    assert names(engine, id=[zoo["up"].short_id]) == ["up"]
    assert names(engine, label=["tier"]) == ["up", "new"]
    assert names(engine, label=["tier=b", "env"]) == ["up"]
    assert names(engine, label=["tier=b", "env=y"]) == []
    assert names(engine, before=["old"]) == ["new"]
    assert names(engine, since=["old"]) == ["held", "up"]
    assert names(engine, ancestor=["busybox"]) == ["held", "up", "old", "new"]
    assert names(engine, ancestor=[busybox.short_id]) == ["held", "up", "old", "new"]
    assert names(engine, ancestor=["alpine"]) == []
    assert names(engine, health=["none"]) == ["held", "up", "old", "new"]
    assert names(engine, network=["none"]) == ["held", "up", "old", "new"]


@pytest.mark.differs(dockerd="for it a tmpfs is no mount")
def test_lists_are_filtered_by_mounts(engine, zoo):
    assert names(engine, volume=["/scratch"]) == ["held"]


@pytest.mark.parametrize("filters", [{"nosuch": ["x"]}, {"status": ["nosuch"]}, {"exited": ["x"]}])
def test_filters_that_do_not_exist_are_refused(engine, zoo, filters):
    with pytest.raises(InvalidArgument, match="(?i)invalid (filter|syntax)"):
        engine.containers.list(all=True, filters=filters)


def test_before_what_does_not_exist(engine, zoo):
    with pytest.raises(NotFound):
        engine.containers.list(all=True, filters={"before": ["nosuch"]})


def test_the_next_exit_can_be_waited_for_before_the_start(engine, busybox):
    id = engine.containers.create(RunSpec("busybox", ("sh", "-c", "exit 5"), detach=True)).id
    codes = []
    waiter = threading.Thread(
        target=lambda: codes.append(engine.containers.wait(id, condition="next-exit", timeout=20))
    )
    waiter.start()
    engine.containers.start(id)
    waiter.join(20)
    assert codes == [5]
    with pytest.raises(TimeoutError):
        engine.containers.wait(id, condition="next-exit", timeout=0.05)


def test_removal_can_be_waited_for(engine, busybox):
    spec = RunSpec("busybox", ("sh", "-c", "exit 3"), detach=True, auto_remove=True)
    id = engine.containers.create(spec).id
    codes = []
    waiter = threading.Thread(
        target=lambda: codes.append(engine.containers.wait(id, condition="removed", timeout=20))
    )
    waiter.start()
    engine.containers.start(id)
    waiter.join(20)
    assert codes == [3]
    with pytest.raises(NotFound):
        engine.containers.get(id)


def test_an_ended_container_is_waited_for_until_it_is_removed(engine, start):
    id = start("sh", "-c", "exit 4").id
    assert engine.containers.wait(id, timeout=20) == 4
    codes = []
    waiter = threading.Thread(
        target=lambda: codes.append(engine.containers.wait(id, condition="removed", timeout=20))
    )
    waiter.start()
    engine.containers.remove(id)
    waiter.join(20)
    assert codes == [4]


def test_an_unknown_condition_is_refused(engine, start):
    with pytest.raises(InvalidArgument, match="condition"):
        engine.containers.wait(start().id, condition="some-day")


def test_restart_runs_it_again(engine, start):
    before = start("sleep", "1000")
    engine.containers.restart(before.id, timeout=0)
    after = engine.containers.get(before.id)
    assert after.status is Status.RUNNING
    assert after.pid != before.pid
    engine.containers.restart(before.id, timeout=0)
    actions = [event.action for event in engine.events(since=before.created, until=time.time())]
    assert actions.count("restart") == 2


@pytest.mark.differs(dockerd="Docker's API cannot say it")
def test_environment_is_changed_and_the_files_stay(engine, start):
    program = "echo $A >> /seen; exec sleep 1000"
    id = start("sh", "-c", program, env=("A=1",), stop_timeout=0.2).id
    engine.containers.update(id, env=("A=2",))
    assert engine.containers.get(id).status is Status.RUNNING
    with engine.containers.exec(id, ExecSpec(("cat", "/seen"))) as stream:
        assert b"".join(data for _, data in stream) == b"1\n2\n"


def test_who_enters_a_container_sees_what_its_program_sees(engine, run, start):
    """Also after several of the same image, when a root stands ready that this one does not use."""
    for _ in range(4):
        run("true", auto_remove=True)
        id = start("sleep", "1000").id
        with engine.containers.exec(id, ExecSpec(("cat", "/etc/hostname", "/proc/1/comm"))) as it:
            assert b"".join(data for _, data in it).decode().split() == [id[:12], "sleep"]


def test_processes_of_another_container_are_shared(engine, run, start):
    start("sleep", "1234", name="web")
    assert "sleep 1234" in run("ps", "-o", "args", pid="container:web").out
    again = start("sleep", "1", pid="container:web", restart=RestartPolicy("on-failure", 1)).id
    engine.containers.kill(again)
    assert engine.containers.wait(again, timeout=20) == 137


def test_who_follows_a_log_reads_it_to_its_end_though_it_is_removed(engine, start):
    """The docker SDK's ``run(remove=True)`` asks for the log, waits, removes, and then reads."""
    for number in range(5):
        id = start("echo", f"line {number}").id
        entries = engine.containers.logs(id, follow=True)
        engine.containers.wait(id, timeout=20)
        engine.containers.remove(id)
        assert b"".join(data for _, _, data in entries) == b"line %d\n" % number
