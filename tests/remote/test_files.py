"""What a container looks like inside, through the API."""

from __future__ import annotations

import io

import pytest

from cellbox.errors import EngineError, InvalidArgument, NotFound, NotSupported, WrongState
from cellbox.model.container import FileChange, FileStat, ProcessTable, Stats
from cellbox.wire.stats import changes_json, stat_header, stats_json, top_json

STAT = FileStat("f", 3, 0o100644, 1e9)


def test_processes(engine, tells, told):
    table = ProcessTable(("PID", "CMD"), (("1", "sh"),))
    tells("GET /containers/web/top", top_json(table))
    assert engine.files.processes("web", ps_args="aux") == table
    assert told()[1] == {"ps_args": ["aux"]}


def test_stats_at_once(engine, tells, told):
    now = Stats(1e9, cpu=5, memory=7, memory_limit=9, pids=1)
    tells("GET /containers/web/stats", stats_json(now, name="web", id="1"))
    found = engine.files.stats("web")
    assert (found.cpu, found.memory, found.pids) == (5, 7, 1)
    assert told()[1] == {"stream": ["0"], "one-shot": ["1"]}
    tells("GET /containers/web/stats", {"read": "0001-01-01T00:00:00Z"})
    with pytest.raises(WrongState, match="web is not running"):
        engine.files.stats("web")


def test_changes_are_ordered(engine, tells):
    changes = [FileChange("A", "/b"), FileChange("C", "/a")]
    tells("GET /containers/web/changes", changes_json(changes))
    assert engine.files.diff("web") == changes[::-1]
    tells("GET /containers/web/changes", None)
    assert engine.files.diff("web") == []


def test_stat(engine, daemon, tells):
    daemon.answers["HEAD /containers/web/archive"] = lambda asked: asked.send(
        b"HTTP/1.1 200 OK\r\nX-Docker-Container-Path-Stat: "
        + stat_header(STAT).encode()
        + b"\r\n\r\n"
    )
    assert engine.files.stat("web", "/f") == STAT
    assert daemon.asked[0].target.endswith("archive?path=%2Ff")
    with pytest.raises(InvalidArgument):
        engine.files.stat("web", "/a\0b")


def test_which_of_both_is_not_there(engine, daemon, tells):
    daemon.answers["HEAD /containers/web/archive"] = lambda asked: asked.send(
        b"HTTP/1.1 404 Not Found\r\n\r\n"
    )
    tells("GET /containers/web/json", {})
    with pytest.raises(NotFound, match="path in the container: /f"):
        engine.files.stat("web", "/f")
    tells("GET /containers/web/json", {"message": "No such container: web"}, 404)
    with pytest.raises(NotFound, match="container: web"):
        engine.files.stat("web", "/f")


def test_get(engine, daemon):
    told = {"X_Docker_Container_Path_Stat": stat_header(STAT)}
    daemon.answers["GET /containers/web/archive"] = lambda asked: asked.reply(200, b"tar", **told)
    out = io.BytesIO()
    assert engine.files.get("web", "/f", out) == STAT
    assert out.getvalue() == b"tar"
    daemon.answers["GET /containers/web/archive"] = lambda asked: asked.reply(200, b"tar")
    with pytest.raises(EngineError):
        engine.files.get("web", "/f", out)


def test_put(engine, tells, daemon):
    tells("PUT /containers/web/archive")
    engine.files.put("web", "/srv", io.BytesIO(b"x" * 200_000), keep_kinds=True)
    (asked,) = daemon.asked
    assert asked.body == b"x" * 200_000
    assert asked.target.endswith("archive?path=%2Fsrv&noOverwriteDirNonDir=1")


def test_export(engine, daemon):
    daemon.answers["GET /containers/web/export"] = lambda asked: asked.reply(200, b"x" * 99_999)
    out = io.BytesIO()
    engine.files.export("web", out)
    assert out.getvalue() == b"x" * 99_999


def test_size(engine, tells, told):
    tells("GET /containers/web/json", {"SizeRw": 5, "SizeRootFs": 12})
    assert engine.files.size("web") == (5, 12)
    assert told()[1] == {"size": ["1"]}
    tells("GET /containers/web/json", {"SizeRootFs": 7})
    assert engine.files.size("web") == (0, 7)


def test_logs_are_cleared_where_the_engine_can(engine, tells, told):
    with pytest.raises(NotSupported, match="Docker's API cannot clear logs"):
        engine.files.clear_logs("web")
    tells("DELETE /containers/web/logs", None, 204)
    engine.files.clear_logs("web")
    assert told()[0] == "DELETE /containers/web/logs"
