"""A long task's lines, as they come."""

import json
import threading

import pytest

from cellbox.api.tasks import told, told_afterwards
from cellbox.errors import EngineError, NotFound
from cellbox.model.image import Progress


def messages(response):
    return [json.loads(line) for line in response.body]


def test_a_step_is_sent_while_the_task_goes_on():
    proceed = threading.Event()

    def task(watch):
        watch(Progress("", "first"))
        assert proceed.wait(20.0)
        return [{"status": "last"}]

    lines = iter(told(task).body)
    assert json.loads(next(lines)) == {"status": "first"}
    proceed.set()
    assert [json.loads(line) for line in lines] == [{"status": "last"}]


def test_steps_come_from_any_thread():
    def task(watch):
        threads = [
            threading.Thread(target=watch, args=(Progress(f"{number}", "x"),))
            for number in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return ()

    assert sorted(int(one["id"]) for one in messages(told(task))) == list(range(20))


def test_nothing_to_tell_is_nothing():
    assert messages(told(lambda watch: ())) == []


@pytest.mark.parametrize("error", [NotFound("image", "x"), ValueError("a fault of ours")])
def test_a_failure_before_the_first_line_is_raised(error):
    def task(watch):
        raise error

    with pytest.raises(type(error)):
        messages(told(task))


def test_a_failure_after_it_is_the_last_line():
    def task(watch):
        watch(Progress("", "first"))
        raise NotFound("network", "x")

    said = "network x not found"
    assert messages(told(task))[1:] == [{"errorDetail": {"message": said}, "error": said}]


def test_a_fault_of_ours_is_not_told_to_clients():
    def task(watch):
        watch(Progress("", "first"))
        raise ValueError("internals")

    with pytest.raises(ValueError, match="internals"):
        messages(told(task))


def test_a_task_goes_on_when_nobody_listens_any_more():
    done = threading.Event()
    proceed = threading.Event()

    def task(watch):
        watch(Progress("", "first"))
        assert proceed.wait(20.0)
        watch(Progress("", "second"))
        done.set()
        raise EngineError("nobody hears this")

    lines = told(task).body
    next(lines)
    lines.close()
    proceed.set()
    assert done.wait(20.0)


def test_what_is_over_is_a_stream_too():
    response = told_afterwards([{"a": 1}, {"b": 2}])
    assert not isinstance(response.body, bytes)
    assert messages(response) == [{"a": 1}, {"b": 2}]
