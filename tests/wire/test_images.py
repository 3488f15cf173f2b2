"""Images as Docker tells them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.container import HealthCheck
from cellbox.model.image import HistoryEntry, Image, ImageConfig, Layer, Platform, Pushed
from cellbox.wire.images import (
    history_json,
    image_from,
    image_json,
    image_summary,
    push_json,
    pushed_from,
)

CONFIG = ImageConfig(
    user="www", env=("PATH=/bin", "A=image"), entrypoint=("/entry",), command=("serve",),
    workdir="/srv", labels={"from": "image"}, volumes=("/data",), exposed_ports=("80/tcp",),
    stop_signal="SIGQUIT", shell=("/bin/bash", "-c"), on_build=("RUN x",),
    health=HealthCheck(("CMD", "true"), interval=1.5),
)  # fmt: skip
HISTORY = (
    HistoryEntry(1.0, "ADD", "first", size=5),
    HistoryEntry(2.0, "CMD", "", empty_layer=True),
)
IMAGE = Image(
    "sha256:" + "a" * 64, ("web:1",), ("web@sha256:b",), (Layer("sha256:c", 5),), CONFIG,
    Platform(architecture="arm64", variant="v8"), 5, created=0.5, author="ada", comment="c",
    history=HISTORY,
)  # fmt: skip
BARE = Image("sha256:b", (), (), (), ImageConfig(), Platform(), 0)
OLD = {"Container", "ContainerConfig"}
"""Keys that API 1.45 has no more."""


def test_an_image_as_docker_tells_it(dockerd):
    told = image_json(IMAGE)
    assert set(dockerd["image"]) - OLD <= set(told)
    assert set(dockerd["image"]["Config"]) <= set(told["Config"])
    assert told["RepoTags"] == ["web:1"]
    assert told["RootFS"] == {"Type": "layers", "Layers": ["sha256:c"]}
    assert (told["Architecture"], told["Variant"], told["Created"]) == (
        "arm64", "v8", "1970-01-01T00:00:00.5Z",
    )  # fmt: skip
    assert told["Config"]["ExposedPorts"] == {"80/tcp": {}}
    assert told["Config"]["Shell"] == ["/bin/bash", "-c"]


def test_an_entry_of_the_list(dockerd):
    told = image_summary(IMAGE, 2)
    assert set(told) == set(dockerd["images"][0])
    assert (told["Containers"], told["SharedSize"], told["Labels"]) == (2, -1, {"from": "image"})
    bare = image_summary(BARE)
    assert (bare["RepoTags"], bare["RepoDigests"], bare["Labels"]) == ([], [], None)
    assert (bare["Containers"], bare["Created"]) == (-1, 0)


def test_history_is_newest_first():
    newest, oldest = history_json(IMAGE)
    assert (newest["Id"], newest["Tags"], newest["CreatedBy"]) == (IMAGE.id, ["web:1"], "CMD")
    assert (oldest["Id"], oldest["Tags"], oldest["Size"]) == ("<missing>", None, 5)
    assert history_json(BARE) == []


def test_what_a_daemon_tells_is_told_again_as_it_was(dockerd):
    facts = image_from(dockerd["image"], dockerd["history"])
    assert [layer.size for layer in facts.layers] == [1984515, 2]
    told = image_json(facts)
    same = {"Id", "RepoTags", "RepoDigests", "Parent", "Architecture", "Os", "Size", "RootFS"}
    assert {key: told[key] for key in same} == {key: dockerd["image"][key] for key in same}
    theirs = dockerd["image"]["Config"]
    lost = {"Healthcheck", "Image"}  # Docker leaves zeros out of the first
    assert {k: told["Config"][k] for k in theirs if k not in lost} == {
        k: v for k, v in theirs.items() if k not in lost
    }
    steps = history_json(facts)
    assert [(one["CreatedBy"], one["Size"], one["Created"]) for one in steps] == [
        (one["CreatedBy"], one["Size"], one["Created"]) for one in dockerd["history"]
    ]


def test_layers_have_no_size_where_history_cannot_tell():
    assert image_from(image_json(IMAGE)).layers == (Layer("sha256:c", 0),)


def test_old_daemons_names_for_no_name():
    told = image_json(BARE) | {"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}
    assert image_from(told) == BARE


@pytest.mark.parametrize("facts", [IMAGE, BARE, replace(IMAGE, tags=(), created=None)])
def test_there_and_back(facts):
    told = json.loads(json.dumps([image_json(facts), history_json(facts)]))
    assert image_from(*told) == facts


@pytest.mark.parametrize("change", [{"Id": 1}, {"RootFS": []}, {"Config": {"Env": "x"}}])
def test_values_of_the_wrong_type_are_refused(change):
    with pytest.raises(InvalidArgument):
        image_from(image_json(IMAGE) | change)


def test_what_a_push_came_to_and_back():
    pushed = Pushed("reg:5000/lab/box:1", "sha256:" + "a" * 64, 528)
    aux = {"Tag": "1", "Digest": "sha256:" + "a" * 64, "Size": 528}
    assert push_json(pushed) == aux
    assert pushed_from("reg:5000/lab/box:1", aux) == pushed
