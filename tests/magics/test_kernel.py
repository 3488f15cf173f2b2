"""The magics in a real Jupyter kernel: boxes, interrupts, displays, over the scripted engine."""

from __future__ import annotations

import queue
import sys
import time
from pathlib import Path

import pytest

manager = pytest.importorskip(
    "jupyter_client.manager", reason="jupyter_client is not installed: pip install jupyter_client"
)

SETUP = """
import importlib.util, sys, threading
sys.path[:0] = {paths!r}
spec = importlib.util.spec_from_file_location("scripted", {conftest!r})
scripted = importlib.util.module_from_spec(spec)
sys.modules["scripted"] = scripted
spec.loader.exec_module(scripted)
engine = scripted.FakeEngine()
engine.images.add("ubuntu")

def asks(process):
    process.out("name? ")
    process.out(b"hello " + process.read())
    return 0

def brief(process):
    process.out("soon over\\n")
    opened.wait(20)
    return 0

def sleep(process):
    process.out("asleep\\n")
    return 128 + {{"INT": 2, "KILL": 9, "TERM": 15}}[process.signal()]

opened = threading.Event()
request = get_ipython().kernel._input_request

def noted(*words, **more):
    opened.set()
    return request(*words, **more)

get_ipython().kernel._input_request = noted
engine.programs = dict(asks=asks, brief=brief, sleep=sleep, hello=scripted.hello)
from cellbox_magics.magics import load
from cellbox_magics.session import Session
load(get_ipython(), Session(connect=lambda url: engine))
"""


class Client:
    """A kernel, and what a front end would see of a cell."""

    def __init__(self, manager, client):
        self.manager, self.client = manager, client

    def run(self, code: str, answer: str | None = None, interrupt_at: str = ""):
        """Run a cell; the status of the reply and the messages. A box is answered, or left open."""
        request = self.client.execute(code, allow_stdin=True)
        messages = []
        boxes = 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            boxes += self._answer(answer)
            try:
                message = self.client.get_iopub_msg(timeout=0.05)
            except queue.Empty:
                continue
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            messages.append((message["msg_type"], content))
            if interrupt_at and interrupt_at in content.get("text", ""):
                self.manager.interrupt_kernel()
            if content.get("execution_state") == "idle":
                reply = self.client.get_shell_msg(timeout=20)
                return reply["content"]["status"], messages, boxes
        raise AssertionError(f"the cell did not end: {messages}")

    def _answer(self, answer):
        try:
            self.client.get_stdin_msg(timeout=0)
        except queue.Empty:
            return 0
        if answer is not None:
            self.client.input(answer)
        return 1


def text(messages, name="stdout"):
    return "".join(
        content["text"]
        for kind, content in messages
        if kind == "stream" and content["name"] == name
    )


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    home = tmp_path_factory.mktemp("kernel")
    made = manager.KernelManager(kernel_name="python3", connection_file=str(home / "k.json"))
    spec = made.kernel_spec
    spec.argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    made.start_kernel(cwd=str(home))
    client = made.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        paths = [path for path in sys.path if path.rstrip("/").endswith(("runtime", "magics"))]
        setup = SETUP.format(paths=paths, conftest=str(Path(__file__).with_name("conftest.py")))
        ready = Client(made, client)
        status, messages, _ = ready.run(setup)
        assert status == "ok", messages
        yield ready
    finally:
        client.stop_channels()
        made.shutdown_kernel(now=True)


def test_output_and_a_table(kernel):
    status, messages, _ = kernel.run("%container run ubuntu hello")
    assert (status, text(messages)) == ("ok", "hello\n")
    _, messages, _ = kernel.run("%container images")
    bundle = next(content["data"] for kind, content in messages if kind == "execute_result")
    assert "<table" in bundle["text/html"]
    assert bundle["text/plain"].startswith("REPOSITORY")


def test_a_program_asks_and_the_box_answers(kernel):
    status, messages, boxes = kernel.run("%container run -i ubuntu asks", answer="ada")
    assert (status, boxes) == ("ok", 1)
    assert text(messages) == "name? hello ada\n"


def test_a_box_that_nobody_answers_closes_with_the_program(kernel):
    assert kernel.run("opened.clear()")[0] == "ok"
    status, messages, _ = kernel.run("%container run -i ubuntu brief")
    assert (status, text(messages)) == ("ok", "soon over\n")
    assert kernel.run("assert opened.is_set()")[0] == "ok"
    assert kernel.run("1 + 1")[0] == "ok"


def test_an_interrupt_stops_the_container_and_fails_the_cell_in_one_line(kernel):
    status, messages, _ = kernel.run("%container run --rm ubuntu sleep", interrupt_at="asleep")
    assert status == "error"
    (error,) = [content for kind, content in messages if kind == "error"]
    assert error["traceback"] == ["cellbox: interrupted: ubuntu was stopped"]
    assert kernel.run("assert not [f for f in engine.containers.facts.values() "
                      "if f.spec.auto_remove]")[0] == "ok"  # fmt: skip


def test_a_pull_is_one_display_updated_in_place(kernel):
    status, messages, _ = kernel.run("_ = %container pull python:3.12")
    assert status == "ok"
    kinds = [kind for kind, _ in messages if kind.endswith("display_data")]
    assert kinds[0] == "display_data"
    assert set(kinds[1:]) <= {"update_display_data"}
    last = [content for kind, content in messages if kind.endswith("display_data")][-1]
    assert "Pull complete" in last["data"]["text/plain"]


def test_an_error_is_one_line(kernel):
    status, messages, _ = kernel.run("%container run nowhere/image ls")
    assert status == "error"
    (error,) = [content for kind, content in messages if kind == "error"]
    assert error["traceback"] == ["cellbox: No such image: nowhere/image"]
    assert error["ename"] == "NotFound"
