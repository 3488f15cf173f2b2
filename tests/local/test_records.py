"""Records of images and containers on disk."""

import os
from dataclasses import replace

import pytest

from cellbox.errors import EngineError
from cellbox.local.records import ContainerRecord, ImageRecord, Records
from cellbox.model.container import Limits, RunSpec
from cellbox.model.image import Descriptor


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path)


@pytest.fixture
def container():
    spec = RunSpec("ubuntu", labels={"a": "b"}, limits=Limits(pids=5))
    return ContainerRecord("c" * 64, "web", "sha256:" + "a" * 64, spec, ("ls",), 1.5, True)


def test_records_come_back_as_they_were(records, container, make_image):
    image = ImageRecord(make_image(1, tags=["a:1"]), Descriptor("manifest", "sha256:x", 5))
    records.write_image(image)
    records.write_container(container)

    assert records.images() == [image]
    assert records.containers() == [container]
    assert records.image_ids() == {image.image.id}


def test_the_one_written_last_comes_first(records, make_image, tmp_path):
    for number in (1, 2, 3):
        records.write_image(ImageRecord(make_image(number)))
        os.utime(tmp_path / "images" / f"{number:064x}.json", (number, number))
    os.utime(tmp_path / "images" / f"{1:064x}.json", (9, 9))
    assert [record.image.id[-1] for record in records.images()] == ["1", "3", "2"]


def test_forgetting_is_repeatable(records, container, make_image, tmp_path):
    records.write_image(ImageRecord(make_image(1)))
    records.write_container(container)
    for _ in range(2):
        records.forget_image(make_image(1).id)
        records.forget_container(container.id)
    assert records.images() == records.containers() == []
    assert (tmp_path / "containers" / container.id).is_dir()


def test_an_empty_store_has_none(records):
    assert records.images() == records.containers() == []
    assert records.image_ids() == set()


def test_a_record_is_whole_private_and_alone(records, container, tmp_path):
    records.write_container(container)
    records.write_container(container)

    (file,) = (tmp_path / "containers" / container.id).iterdir()
    assert file.name == "container.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_container_that_is_gone_is_not_written_again(records, container, tmp_path):
    records.rewrite_container(container)
    assert not (tmp_path / "containers").exists()
    records.write_container(replace(container, name="old"))
    records.rewrite_container(container)
    assert records.containers() == [container]


def test_a_record_that_cannot_be_written_is_told_and_leaves_nothing(records, make_image, tmp_path):
    blocked = tmp_path / "images" / f"{1:064x}.json"
    blocked.mkdir(parents=True)

    with pytest.raises(EngineError, match=f"cannot write {blocked}: Is a directory"):
        records.write_image(ImageRecord(make_image(1)))
    assert list(blocked.parent.iterdir()) == [blocked]
    assert records.images() == []
