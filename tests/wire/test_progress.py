"""The lines of a long task, as moby writes them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.model.image import Progress
from cellbox.wire.progress import failure_json, line, progress_from, progress_json


def test_a_part_tells_its_numbers_and_a_bar():
    assert progress_json(Progress("3153aa388d02", "Downloading", 720, 1440)) == {
        "status": "Downloading",
        "id": "3153aa388d02",
        "progressDetail": {"current": 720, "total": 1440},
        "progress": f"[{'=' * 25}>{' ' * 25}]     720B/1.44kB",
    }


def test_the_whole_tells_its_status_only():
    assert progress_json(Progress("", "Digest: sha256:1")) == {"status": "Digest: sha256:1"}
    told = progress_json(Progress("latest", "Pulling from library/busybox"))
    assert told == {"status": "Pulling from library/busybox", "id": "latest"}


def test_a_stage_without_numbers():
    told = progress_json(Progress("abc", "Pull complete"))
    assert told == {"status": "Pull complete", "id": "abc", "progressDetail": {}}


@pytest.mark.parametrize(
    ("current", "total", "text"),
    [
        (5_300_000, None, "   5.3MB"),
        (1, None, "      1B"),
        (1000, 1000, f"[{'=' * 50}>]      1kB/1kB"),
        (2000, 1000, f"[{'=' * 50}>]      2kB"),
        (0, 123_456_789, f"[>{' ' * 50}]       0B/123.5MB"),
    ],
)
def test_bars_as_docker_draws_them(current, total, text):
    assert progress_json(Progress("a", "Extracting", current, total))["progress"] == text


@given(
    st.builds(
        Progress,
        id=st.text("abc", min_size=1),
        action=st.sampled_from(["Downloading", "Pull complete"]),
        current=st.integers(0, 10**12),
        total=st.none() | st.integers(1, 10**12),
    )
)
def test_what_was_told_is_read_back(step):
    assert progress_from(json.loads(line(progress_json(step)))) == step


def test_a_line_of_another_kind_is_one_of_the_whole():
    assert progress_from({"stream": "Loaded image: x:1\n"}) == Progress("", "Loaded image: x:1")


def test_a_failure_is_told_twice_as_clients_look_in_both_places():
    assert failure_json("no") == {"errorDetail": {"message": "no"}, "error": "no"}


def test_a_line_is_json_and_its_end():
    assert line({"status": "é"}) == '{"status":"é"}\r\n'.encode()
