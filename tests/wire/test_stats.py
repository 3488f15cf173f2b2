"""What a container uses and what is in it."""

from __future__ import annotations

import base64
import json
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.errors import EngineError
from cellbox.model.container import FileChange, FileStat, ProcessTable, Stats
from cellbox.wire.stats import (
    changes_from,
    changes_json,
    stat_from_header,
    stat_header,
    stats_from,
    stats_json,
    top_from,
    top_json,
)

THEN = Stats(1.0, cpu=100, system_cpu=1000, cpus=2)
NOW = Stats(
    2.0, cpu=150, system_cpu=1100, cpus=2, memory=10, memory_limit=40, pids=3, pids_limit=9,
    read_bytes=5, written_bytes=6, received_bytes=7, sent_bytes=8,
)  # fmt: skip


def cli(told):
    """What docker's command line shows of a reading (stats_helpers.go)."""
    cpu, before, memory = told["cpu_stats"], told["precpu_stats"], told["memory_stats"]
    used = cpu["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = cpu["system_cpu_usage"] - before["system_cpu_usage"]
    cache = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file", 0))
    usage = memory["usage"] - cache if cache < memory["usage"] else memory["usage"]
    return used / passed * cpu["online_cpus"] * 100, usage, usage / memory["limit"] * 100


def test_the_command_line_finds_what_it_works_with():
    assert cli(stats_json(NOW, THEN, name="web", id="f")) == (100.0, 10, 25.0)


def test_the_keys_are_those_of_a_daemon(dockerd):
    told = stats_json(NOW, THEN, name="web", id="f")
    theirs = dockerd["stats"]
    assert set(told) == set(theirs)
    for part in ("cpu_stats", "precpu_stats", "blkio_stats", "pids_stats"):
        assert set(told[part]) == set(theirs[part])
    assert set(told["networks"]["eth0"]) == set(theirs["networks"]["eth0"])
    assert told["name"] == "/web"


def test_no_limit_is_the_hosts_memory():
    free = Stats(1.0, memory=1)
    assert stats_json(free, name="", id="", host_memory=64)["memory_stats"]["limit"] == 64
    assert "limit" not in stats_json(free, name="", id="")["pids_stats"]


def test_the_first_reading_has_none_before_it():
    told = stats_json(NOW, name="", id="")
    assert told["preread"] == "0001-01-01T00:00:00Z"
    assert told["precpu_stats"]["system_cpu_usage"] == 0


def test_a_daemons_reading(dockerd):
    found = stats_from(dockerd["stats"])
    assert (found.cpu, found.cpus, found.pids, found.pids_limit) == (245190895, 2, 1, 50)
    assert found.memory == 667648 - 8192
    assert found.received_bytes == 2612
    assert stats_from(dockerd["stats-dead"]) == Stats(0.0)


def test_a_reading_under_version_2_and_without_limits(dockerd):
    told = dockerd["stats"]
    told["memory_stats"] = {"usage": 10, "stats": {"inactive_file": 4}, "limit": (1 << 63) - 4096}
    told["pids_stats"] = {"current": 1, "limit": (1 << 64) - 1}
    told["blkio_stats"]["io_service_bytes_recursive"] = [
        {"op": "Read", "value": 1}, {"op": "read", "value": 2}, {"op": "Total", "value": 9},
    ]  # fmt: skip
    found = stats_from(told)
    assert (found.memory, found.memory_limit, found.pids_limit) == (6, 0, 0)
    assert (found.read_bytes, found.written_bytes) == (3, 0)


counts = st.integers(0, 1 << 60)


@given(st.builds(
    Stats, st.integers(1, 1 << 32).map(float), counts, counts, st.integers(1, 64), counts, counts,
    counts, counts, counts, counts, counts, counts,
))  # fmt: skip
def test_readings_there_and_back(reading):
    told = json.loads(json.dumps(stats_json(reading, name="web", id="f")))
    assert stats_from(told) == reading


def test_processes(dockerd):
    table = top_from(dockerd["top"])
    assert table.rows[0][table.titles.index("CMD")] == "sleep 300"
    assert top_json(table) == dockerd["top"]
    assert top_from({"Titles": None, "Processes": None}) == ProcessTable((), ())


def test_changes(dockerd):
    changes = changes_from(dockerd["changes"])
    assert FileChange("C", "/etc/passwd") in changes and FileChange("D", "/x") in changes
    assert changes_json(changes) == dockerd["changes"]
    assert (changes_json([]), changes_from(None)) == (None, [])


def test_a_change_of_unknown_kind_is_the_engines_fault():
    with pytest.raises(EngineError):
        changes_from([{"Kind": 9, "Path": "/"}])


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"name": "passwd", "size": 194, "mode": 420, "mtime": "1970-01-01T00:00:01.5Z",
          "linkTarget": ""}, FileStat("passwd", 194, 0o100644, 1.5)),
        ({"name": "sh", "size": 7, "mode": 134218239, "mtime": "1970-01-01T00:00:01Z",
          "linkTarget": "/bin/busybox"}, FileStat("sh", 7, 0o120777, 1.0, "/bin/busybox")),
        ({"name": "tmp", "size": 4096, "mode": 2148532735, "mtime": "1970-01-01T00:00:01Z",
          "linkTarget": ""}, FileStat("tmp", 4096, 0o041777, 1.0)),
    ],
)  # fmt: skip
def test_the_facts_of_a_file_are_a_daemons(told, found):
    header = stat_header(found)
    assert json.loads(base64.b64decode(header)) == told
    assert stat_from_header(header) == found


types = st.sampled_from(
    [stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFBLK, stat.S_IFCHR, stat.S_IFIFO,
     stat.S_IFSOCK]
)  # fmt: skip


@given(st.text(), types, st.integers(0, 0o7777), st.text())
def test_modes_there_and_back(name, kind, permissions, target):
    file = FileStat(name, 5, kind | permissions, 2.0, target)
    assert stat_from_header(stat_header(file)) == file


@pytest.mark.parametrize("text", ["", "x", "e30", base64.b64encode(b"{").decode()])
def test_what_is_no_header_is_the_engines_fault(text):
    with pytest.raises(EngineError):
        stat_from_header(text)
