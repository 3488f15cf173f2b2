"""Facts to rows, and rows to what --format asks for."""

from __future__ import annotations

import json
from dataclasses import replace

from cellbox.model.container import (
    Container,
    MountKind,
    MountPoint,
    PortSpec,
    RunSpec,
    Stats,
    Status,
)
from cellbox.model.event import Event
from cellbox.model.image import HistoryEntry, Image, ImageConfig, Platform
from cellbox.model.network import Endpoint, Network, NetworkSpec
from cellbox.model.system import DiskUsage
from cellbox.model.volume import Volume
from cellbox_magics import rows

FACTS = Container(
    "0123456789abcdef" * 4, "web", "sha256:i",
    RunSpec("ubuntu", labels={"a": "1"}),
    ("sh", "-c", "echo something long"), Status.RUNNING, created=0.0, started=0.0,
    mounts=(
        MountPoint(MountKind.BIND, "/d", "/a/very/long/path"),
        MountPoint(MountKind.VOLUME, "/v", "/s/volumes/data/_data", name="data", driver="local"),
        MountPoint(MountKind.TMPFS, "/t", ""),
    ),
)  # fmt: skip
IMAGE = Image(
    "sha256:" + "ab" * 32, ("localhost:5000/a/b:v1", "ubuntu:latest"), ("ubuntu@sha256:1",),
    (), ImageConfig(), Platform(), 1000, created=None,
)  # fmt: skip


def test_a_containers_row_is_cut_unless_told_otherwise():
    row = rows.container(FACTS, now=7200.0)
    assert row["ID"] == "0123456789ab"
    assert row["Command"] == '"sh -c echo somethin…"'
    assert row["RunningFor"] == "2 hours ago"
    assert (row["Mounts"], row["LocalVolumes"]) == ("data,/a/very/long/p…", "1")
    full = rows.container(FACTS, full=True, now=7200.0)
    assert full["ID"] == FACTS.id
    assert full["Command"] == '"sh -c echo something long"'


def test_a_container_tells_its_ports_and_networks():
    places = (
        Endpoint("e", "shop", "n", FACTS.id, "web"), Endpoint("f", "back", "m", FACTS.id, "web"),
    )  # fmt: skip
    ports = (PortSpec(80, host_ip="127.0.0.1", host_port=8080),)
    facts = replace(FACTS, endpoints=places, ports=ports)
    image = replace(IMAGE, config=ImageConfig(exposed_ports=("80/tcp", "443/tcp")))
    row = rows.container(facts, image, now=0.0)
    assert row["Ports"] == "443/tcp, 127.0.0.1:8080->80/tcp"
    assert row["Networks"] == "shop,back"
    ended = rows.container(replace(facts, status=Status.EXITED), image, now=0.0)
    assert ended["Ports"] == ""
    assert rows.container(FACTS, now=0.0)["Networks"] == "bridge"


def test_a_network_is_cut_to_its_short_id():
    facts = Network("ab" * 32, NetworkSpec("shop", ipv6=True, labels={"a": "1"}), 0.0)
    row = rows.network(facts)
    assert (row["ID"], row["IPv6"], row["Internal"]) == ("abababababab", "true", "false")
    assert (row["Labels"], row["CreatedAt"]) == ("a=1", "1970-01-01 00:00:00 +0000 UTC")
    assert rows.network(facts, full=True)["ID"] == facts.id


def test_a_volume_has_its_driver_before_its_name():
    shown = rows.volume(Volume("data", "local", "/s/data/_data", 0.0, labels={"a": "1"}))
    assert rows.VOLUMES.columns == ("Driver", "Name")
    assert (shown["Driver"], shown["Name"], shown["Labels"]) == ("local", "data", "a=1")


def test_an_image_has_a_row_for_each_tag():
    shown = rows.images(IMAGE, now=0.0)
    assert [(row["Repository"], row["Tag"]) for row in shown] == [
        ("localhost:5000/a/b", "v1"), ("ubuntu", "latest"),
    ]  # fmt: skip
    assert shown[0]["Digest"] == "sha256:1"
    nameless = rows.images(replace(IMAGE, tags=(), digests=()))
    assert (nameless[0]["Repository"], nameless[0]["Digest"]) == ("<none>", "<none>")


def test_formats_of_a_listing():
    row = rows.container(FACTS, now=0.0)
    table = rows.show(rows.CONTAINERS, [row], [FACTS])
    assert table.titles[0] == "CONTAINER ID"
    assert list(table) == [FACTS]
    assert rows.show(rows.CONTAINERS, [row], format='{{.Names}} {{.Label "a"}}') == ["web 1"]
    custom = rows.show(rows.CONTAINERS, [row], [FACTS], format="table {{.Names}}\\t{{.State}}")
    assert repr(custom) == "NAMES     STATE\nweb       running"
    told = json.loads(rows.show(rows.CONTAINERS, [row], format="json")[0])
    assert told["Names"] == "web"
    assert "Label" not in told


def test_stats_measure_between_two_readings():
    then = Stats(0.0, cpu=0, system_cpu=0, cpus=2)
    now = Stats(1.0, cpu=50, system_cpu=100, cpus=2, memory=1 << 20, memory_limit=4 << 20, pids=3)
    row = rows.stats(FACTS, then, now)
    assert (row["CPUPerc"], row["MemPerc"]) == ("100.00%", "25.00%")
    assert row["MemUsage"] == "1MiB / 4MiB"
    assert rows.stats(FACTS, now, now)["CPUPerc"] == "0.00%"
    assert rows.stats(FACTS, then, then)["MemUsage"].endswith("unlimited")


def test_history_disk_and_events():
    entry = HistoryEntry(0.0, "RUN  " + "x" * 60, size=5)
    row = rows.history(entry, "sha256:" + "ab" * 32, now=60.0)
    assert (row["ID"], len(row["CreatedBy"])) == ("abababababab", 45)
    assert rows.history(entry)["ID"] == "<missing>"
    assert rows.disk(DiskUsage("Images", 2, 1, 1000, 500))["Reclaimable"] == "500B (50%)"
    assert rows.disk(DiskUsage("Images", 0, 0, 0, 0))["Reclaimable"] == "0B"
    event = Event(1.5, "container", "die", "abc", {"name": "web"})
    assert rows.event_line(event) == "1970-01-01T00:00:01.5Z container die abc (name=web)"
