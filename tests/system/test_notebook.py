"""The main job in a real kernel: what a person who knows Docker types, and what they then see."""

from __future__ import annotations

import os
import signal

import pytest

import cellbox
from cellbox.model.container import Status

pytestmark = pytest.mark.usefixtures("ubuntu")


def test_run_pulls_the_image_and_streams_its_output(notebook):
    cell = notebook.run("%container run ubuntu ls")
    assert cell.status == "ok", cell.messages
    names = cell.text().split()
    assert {"bin", "etc", "proc", "usr", "var"} <= set(names)
    assert "PULL" in cell.displays()[-1]["text/plain"].upper()
    again = notebook.run("%container run ubuntu cat /etc/os-release")
    assert "Debian" in again.text()
    assert not again.displays(), "an image that is there is not pulled again"


def test_a_pull_is_one_display_that_grows(notebook):
    cell = notebook.run("pulled = %container pull ubuntu")
    assert cell.status == "ok"
    kinds = [kind for kind, _ in cell.messages if kind.endswith("display_data")]
    assert kinds[0] == "display_data"
    assert set(kinds[1:]) <= {"update_display_data"}
    assert "Pull complete" in cell.displays()[-1]["text/plain"]
    assert "text/html" in cell.displays()[-1]


def test_a_cell_is_the_script_of_its_interpreter(notebook):
    cell = notebook.run(
        "%%container run ubuntu bash\n"
        'for n in 1 2 3; do echo "line $n"; done\n'
        "words=(a b); echo ${#words[@]} {left,alone}\n"
        "echo problem >&2"
    )
    assert cell.status == "ok"
    assert cell.text() == "line 1\nline 2\nline 3\n2 left alone\n"
    assert cell.text("stderr") == "problem\n"


def test_a_terminal_asks_in_the_input_box(notebook):
    cell = notebook.run(
        "%container run -it ubuntu bash -c 'read -p \"name? \" x; test -t 0 && echo hello $x'",
        answers=["ada"],
    )
    assert cell.status == "ok"
    assert len(cell.boxes) == 1
    assert "name? " in cell.text()
    assert "hello ada" in cell.text()


def test_a_program_that_reads_gets_the_box_and_then_the_end_of_input(notebook):
    cell = notebook.run("%container run -i ubuntu head -n 1", answers=["first line"])
    assert (cell.status, cell.text()) == ("ok", "first line\n")


def test_ps_is_a_table_and_its_rows_are_objects(notebook):
    assert notebook.run("web = %container run -d --name web ubuntu sleep 1000").status == "ok"
    cell = notebook.run("%container ps")
    assert "<table" in cell.result["text/html"]
    assert "web" in cell.result["text/html"]
    assert cell.result["text/plain"].startswith("CONTAINER ID")
    assert notebook.run("ps = %container ps\nprint(len(ps), ps[0].name, ps[0] == web)").text() == (
        "1 web True\n"
    )
    assert notebook.run("ps[0].kill()\nprint(web.wait())").text() == "137\n"
    assert "Exited (137)" in notebook.run("%container ps -a").result["text/plain"]


def test_an_interrupt_stops_sleep_at_once(notebook, engine):
    cell = notebook.run(
        "%container run ubuntu sh -c 'echo asleep; exec sleep 100'", interrupt_at="asleep"
    )
    assert cell.status == "error"
    assert "interrupted" in cell.error
    assert "\n" not in cell.error, "an interrupt is one line, not a stack trace"
    (container,) = engine.containers.list(all=True)
    assert container.status is Status.EXITED
    assert notebook.run("1 + 1").status == "ok"


def test_a_program_that_fails_fails_the_cell_and_stops_run_all(notebook):
    failing = notebook.send("%container run ubuntu sh -c 'echo before; exit 3'")
    queued = notebook.send("print('not reached')")
    cell = notebook.follow(failing)
    assert (cell.status, cell.text()) == ("error", "before\n")
    assert "exit code 3" in cell.error
    assert notebook.follow(queued).status == "aborted"
    kept = notebook.run("print(get_ipython().run_line_magic('container', "
                        "'run --no-raise ubuntu sh -c \"exit 3\"'))")  # fmt: skip
    assert (kept.status, kept.text()) == ("ok", "3\n")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("%container run ubuntu:nosuchtag ls", "nosuchtag"),
        ("%container run ubuntu nosuchprogram", "nosuchprogram"),
        ("%container logs nosuchcontainer", "No such container: nosuchcontainer"),
    ],
)
def test_what_is_not_there_is_one_sentence(notebook, line, sentence):
    cell = notebook.run(line)
    assert cell.status == "error"
    assert cell.error.startswith("cellbox: ")
    assert sentence in cell.error
    assert "\n" not in cell.error


@pytest.mark.parametrize("line", ["%container rnu ubuntu", "%container run --nosuchflag ubuntu"])
def test_a_misspoken_line_says_where_the_help_is(notebook, line):
    cell = notebook.run(line)
    assert cell.status == "error"
    assert "UsageError" in cell.text("stderr")
    assert "--help" in cell.text("stderr")


def test_variables_pass_in_and_out_of_a_cell(notebook):
    assert notebook.run("numbers = [1, 2, 3]\nname = 'ada'").status == "ok"
    cell = notebook.run(
        "%%container run -i numbers,name -o total host python3\n"
        "import os\n"
        "total = {'of': name, 'sum': sum(numbers), 'uid': os.getuid()}"
    )
    assert cell.status == "ok", cell.messages
    assert notebook.run("print(total)").text() == "{'of': 'ada', 'sum': 6, 'uid': 0}\n"


def test_what_cannot_pass_is_refused_by_name_and_type(notebook):
    assert notebook.run("thing = object()").status == "ok"
    cell = notebook.run("%%container run -i thing host python3\npass")
    assert cell.status == "error"
    assert "thing" in cell.error
    assert "object" in cell.error


def test_values_of_the_notebook_expand_and_dollars_do_not(notebook):
    assert notebook.run("word = 'deep thought'\nHOME = 'python'").status == "ok"
    cell = notebook.run("%container run ubuntu sh -c 'echo {word}; echo $HOME'")
    assert cell.text() == "deep thought\n/root\n"
    cell = notebook.run("%container ps -a --format '{{.Image}}'")
    assert cell.result["text/plain"] == "ubuntu"


def test_beside_the_notebook(notebook):
    cell = notebook.run(
        "job = %container run --bg ubuntu sh -c 'echo working; exit 4'\n"
        "code = await job\n"
        "print(code, job.logs().strip())"
    )
    assert (cell.status, cell.text()) == ("ok", "4 working\n")


def test_a_killed_kernel_takes_its_own_containers_along_and_leaves_detached_ones(
    notebook, engine, until
):
    assert notebook.run("%container run -d --name stays ubuntu sleep 1000").status == "ok"
    assert notebook.run("%container run --bg --name beside ubuntu sleep 1000").status == "ok"
    notebook.send("%container run --rm --name goes ubuntu sleep 1000")
    until(lambda: _running(engine) == {"stays", "beside", "goes"}, 30)
    os.kill(notebook.pid, signal.SIGKILL)
    until(lambda: _running(engine) == {"stays"}, 30)
    until(lambda: "goes" not in {one.name for one in engine.containers.list(all=True)}, 10)
    assert engine.check() == []


def _running(engine: cellbox.Engine) -> set[str]:
    return {one.name for one in engine.containers.list()}


def test_two_kernels_that_pull_run_and_remove_one_image_at_once_agree(new_notebook, engine):
    first, second = new_notebook(), new_notebook()
    lines = [
        "%container run --rm ubuntu echo hello",
        "%container run --rm ubuntu echo again",
    ]
    for line in lines:
        cells = [(one, one.send(line)) for one in (first, second)]
        for one, request in cells:
            cell = one.follow(request)
            said = line.rsplit(" ", 1)[1] + "\n"
            assert (cell.status, cell.text()) == ("ok", said), cell.messages
    assert [image.tags for image in engine.images.list()] == [("ubuntu:latest",)]
    requests = [(one, one.send("%container rmi ubuntu")) for one in (first, second)]
    ended = [one.follow(request) for one, request in requests]
    assert "ok" in {cell.status for cell in ended}, [cell.messages for cell in ended]
    assert engine.images.list() == []
    assert engine.check() == []


def test_the_extension_can_be_loaded_again_and_unloaded(notebook):
    assert notebook.run("%load_ext cellbox").status == "ok"
    assert notebook.run("%reload_ext cellbox\n%container run ubuntu true").status == "ok"
    assert notebook.run("%unload_ext cellbox\n%container ps").status == "error"


def test_completion_knows_images_and_flags(notebook):
    assert notebook.run("%container pull ubuntu").status == "ok"
    assert "ubuntu" in _completions(notebook, "%container run ubu")
    assert "--memory" in _completions(notebook, "%container run --mem")


def _completions(notebook, code: str) -> list[str]:
    reply = notebook.client.complete(code, reply=True, timeout=30)
    return list(reply["content"]["matches"])
