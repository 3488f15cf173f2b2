"""RUN with mounts, in an engine."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from cellbox.errors import Cancelled, InvalidArgument, NotFound
from cellbox.model.build import BuildSecret, BuildSpec

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def clean(nothing_left, engine):
    """Nothing is left by any build, nor a copy in the store."""
    yield
    store = engine.images._store
    assert [*store.root.glob("build-cache/.new-*"), *store.run.glob("build/.new-*")] == []


def test_files_of_the_context(build, context):
    where = context(
        "FROM busybox\nARG D=sub\nWORKDIR /w\n"
        "RUN --mount=target=/m/ctx --mount=source=$D/f,target=one --mount=rw,source=sub,target=/rw "
        "cat /m/ctx/f one; echo more >>/rw/f; cat /rw/f; touch /m/ctx/x 2>/dev/null || echo ro\n"
        "CMD ls /m /rw /w; find / -name sub\n",
        {"f": "top\n", "sub/f": "below\n"},
    )
    image = build(where)
    assert "top\nbelow\nbelow\nmore\nro\n" in build.text
    assert (where / "sub" / "f").read_text() == "below\n"
    assert "sub" not in build.run(image).replace("/w:", "")
    build(where)
    assert "Running in" not in build.text
    (where / "sub" / "f").write_text("changed\n")
    build(where)
    assert "changed\nchanged\nmore\n" in build.text


def test_files_of_a_stage_and_an_image(build, context):
    where = context(
        "FROM busybox AS one\nRUN mkdir /d; echo art >/d/a; chown 5:6 /d/a; ln -s d /l\n"
        "FROM busybox AS unused\nRUN exit 1\n"
        "FROM busybox\nRUN --mount=from=one,source=/l,target=/x --mount=from=busybox,target=/i "
        "stat -c %u:%g /x/a; cat /x/a; ls -d /i/etc/passwd; cp /x/a /kept\nCMD cat /kept; ls /x\n"
    )
    image = build(where)
    assert "5:6\nart\n/i/etc/passwd\n" in build.text
    assert build.run(image) == "art\n" or build.run(image).startswith("art\n")


def test_a_cache_stays_and_is_in_no_layer(build, context, engine):
    text = (
        "FROM busybox\nARG N\n"
        "RUN --mount=type=cache,target=/c,uid=7,gid=8,mode=0750 "
        "echo $N >>/c/log; cat /c/log; stat -c %u:%g:%a /c\nCMD ls /c\n"
    )
    image = build(context(text), arguments={"N": "1"})
    assert "1\n7:8:750\n" in build.text
    assert "log" not in build.run(image)
    build(context(text), arguments={"N": "2"})
    assert "1\n2\n7:8:750\n" in build.text
    row = engine.system.disk_usage() if hasattr(engine, "system") else engine.disk_usage()
    (cache,) = [one for one in row if one.kind == "Build Cache"]
    assert (cache.total, cache.active) == (1, 0) and cache.size == cache.reclaimable > 0


def test_how_a_cache_begins(build, context):
    text = (
        "FROM busybox AS first\nRUN mkdir /d; echo a >/d/a\nFROM busybox\nARG N\n"
        "RUN --mount=type=cache,id=x,from=first,source=/d,target=/c "
        "--mount=type=cache,id=x,from=first,source=/d,target=/again,sharing=locked "
        "echo $N >/c/$N; ls /again\n"
    )
    build(context(text), arguments={"N": "n1"})
    build(context(text), arguments={"N": "n2"})
    assert "a\nn1\nn2\n" in build.text


def test_a_tmpfs(build, context):
    where = context(
        "FROM busybox\nRUN --mount=type=tmpfs,target=/t,size=1m df -k /t | tail -1; "
        "echo x >/t/x\nCMD ls /t\n"
    )
    image = build(where)
    assert " 1024 " in build.text
    assert "x" not in build.run(image).split()


def test_a_secret_is_seen_by_its_step_only(build, context, engine, tmp_path, monkeypatch):
    secret = "s3cr3t-" + "f00d" * 5
    (tmp_path / "file").write_text(secret)
    monkeypatch.setenv("HERE", secret)
    where = context(
        "FROM busybox\n"
        "RUN --mount=type=secret,id=one --mount=type=secret,id=two,target=/k,mode=0440,uid=3,gid=4 "
        "--mount=type=secret,id=two,env=TWO --mount=type=secret,id=gone "
        "[ $(cat /run/secrets/one) = $TWO ] && [ $(cat /k) = $TWO ] && echo same; "
        "stat -c %u:%g:%a /k /run/secrets/one; ls /run/secrets; wc -c </run/secrets/one >/n\n"
        "CMD cat /n; find /k /run\n"
    )
    given = {"one": BuildSecret(file=str(tmp_path / "file")), "two": BuildSecret(variable="HERE")}
    image = build(where, secrets=given)
    assert "same\n3:4:440\n0:0:400\none\n" in build.text
    assert build.run(image).startswith("27\n") and "/k" not in build.run(image)
    assert secret not in repr(image) and secret not in build.text
    store = engine.images._store
    for top in (store.root, store.run):
        for above, _, names in os.walk(top):
            for name in names:
                path = os.path.join(above, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    with open(path, "rb") as file:
                        assert secret.encode() not in file.read(), path
    monkeypatch.setenv("HERE", "other")
    build(where, secrets=given)
    assert "Running in" not in build.text


def test_what_has_to_be_given(build, context):
    with pytest.raises(NotFound, match="secret"):
        build(context("FROM busybox\nRUN --mount=type=secret,id=a,required true\n"))
    with pytest.raises(InvalidArgument, match='no SSH key "default" forwarded'):
        build(context("FROM busybox\nRUN --mount=type=ssh,required true\n"))


def test_an_agent(build, context, tmp_path):
    place = str(tmp_path / "agent.sock")
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(place)
        agent.listen()
        where = context(
            "FROM busybox\nRUN --mount=type=ssh ls $SSH_AUTH_SOCK; [ -S $SSH_AUTH_SOCK ]\n"
            "CMD find /run\n"
        )
        image = build(where, ssh={"default": place})
    assert "/run/buildkit/ssh_agent.0\n" in build.text
    assert "agent" not in build.run(image)


def test_who_wants_a_locked_cache_waits(build, context, engine, until):
    where = context(
        "FROM busybox\nRUN --mount=type=cache,target=/c,sharing=locked "
        "echo begun; while [ ! -e /c/end ]; do sleep .1; done; sleep 1000\n"
    )
    told = []
    given_up = threading.Event()

    def first():
        with pytest.raises(Cancelled):
            engine.images.build(
                where, BuildSpec(network="none"), tell=told.append, stop=given_up.is_set
            )

    thread = threading.Thread(target=first)
    thread.start()
    try:
        until(lambda: "begun\n" in "".join(map(str, told)))
        deadline = time.monotonic() + 1
        with pytest.raises(Cancelled):
            engine.images.build(
                where, BuildSpec(network="none"), stop=lambda: time.monotonic() > deadline
            )
        assert len(engine.containers.list(all=True)) == 1
    finally:
        given_up.set()
        thread.join()


def test_more_than_the_sandbox(build, context):
    where = context("FROM busybox\nRUN --security=insecure grep CapEff /proc/self/status\n")
    build(where, entitlements=frozenset({"security.insecure"}))
    insecure = build.text
    build(context("FROM busybox\nRUN --security=sandbox grep CapEff /proc/self/status\n"))
    assert "a80425fb" in build.text and "a80425fb" not in insecure


def test_a_trigger_mounts_too(build, context):
    text = "FROM busybox\nONBUILD RUN --mount=type=cache,target=/c echo x >/c/x; ls /c\n"
    build(context(text), tags=("base",))
    build(context("FROM base\n"))
    assert "Running in" in build.text and "\nx\n" in build.text
