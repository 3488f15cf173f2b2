"""The magics in a real IPython shell, over a scripted engine."""

from __future__ import annotations

import subprocess
import sys

import pytest
from IPython.core.error import UsageError

from cellbox.errors import NotFound, StartError
from cellbox.model.container import Status
from cellbox_magics.magics import load, unload
from cellbox_magics.outcome import CommandFailed, Interrupted


def test_run_pulls_creates_streams_and_returns_nothing(engine, say, capsys):
    assert say("%container run --rm python:3.12 hello") is None
    assert capsys.readouterr().out == "hello\n"
    assert engine.named("pull") == [("pull", "python:3.12", "")]
    assert not engine.containers.facts


def test_run_without_an_image_runs_on_host(engine, say):
    say("%container run -- hello")
    assert engine.named("create")[0][1].image == "host"
    assert engine.named("create")[0][1].command == ("hello",)


def test_ps_is_a_list_of_handles(engine, say):
    say("%container run -d --name web ubuntu sleep 9")
    found = say("found = %container ps\nfound")
    assert [handle.name for handle in found] == ["web"]
    assert repr(found).startswith("CONTAINER ID   IMAGE")
    assert "<table" in found._repr_html_()
    found[0].kill("TERM")
    assert found[0].wait() == 143


def test_names_in_a_template_and_variables_of_a_shell_are_left_alone(engine, say):
    say("%container run -d --name web ubuntu sleep 9")
    assert say("%container ps --format '{{.Names}}'") == ["web"]
    say("HOME = 'python'\n%container run ubuntu hello $HOME ${HOME} '{print $1}'")
    assert engine.named("create")[-1][1].command == ("hello", "$HOME", "${HOME}", "{print $1}")


def test_braces_take_values_of_the_notebook(engine, say):
    say("name = 'a b'; words = ['x', 'y z']\n%container run ubuntu hello {name} {words}")
    assert engine.named("create")[0][1].command == ("hello", "a b", "x", "y z")


def test_local_variables_of_a_function_are_seen(engine, say):
    say("def f(local):\n    get_ipython().run_line_magic('container', 'run ubuntu hello {local}')")
    say("f('inner')")
    assert engine.named("create")[0][1].command == ("hello", "inner")


def test_a_failing_program_fails_the_cell_with_one_line(say):
    with pytest.raises(CommandFailed) as caught:
        say("%container run --name job ubuntu fail")
    assert caught.value.exit_code == 3
    assert caught.value._render_traceback_() == [
        "cellbox: the program in job ended with exit code 3"
    ]


def test_no_raise_returns_the_code(say):
    assert say("%container run --no-raise ubuntu fail") == 3
    assert say("%container run --no-raise ubuntu hello") == 0


def test_output_and_errors_go_to_their_streams(say, capsys):
    say("code = %container run --no-raise ubuntu fail")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "it went wrong\n")


def test_a_character_cut_in_two_arrives_whole(engine, say, capsys):
    def cut(process):
        process.out("é".encode()[:1])
        process.out("é".encode()[1:] + b"\xff")
        return 0

    engine.programs["cut"] = cut
    say("%container run ubuntu cut")
    assert capsys.readouterr().out == "é\ufffd"


def test_an_engine_error_keeps_its_class_and_shows_one_sentence(say, shell, capsys):
    with pytest.raises(NotFound):
        say("%container run nowhere/image ls")
    output = capsys.readouterr().out
    assert "cellbox: No such image: nowhere/image" in output
    assert "Traceback" not in output


def test_a_program_that_is_not_there_is_one_sentence(say, capsys):
    with pytest.raises(StartError) as caught:
        say("%container run --rm ubuntu nothing")
    assert caught.value.exit_code == 127
    assert "Traceback" not in capsys.readouterr().out


def test_a_fault_of_ours_is_a_sentence_too(engine, say, capsys):
    engine.info = lambda: None
    with pytest.raises(CommandFailed, match="fault of cellbox itself"):
        say("%container info")
    assert "Traceback" not in capsys.readouterr().out


def test_wrong_words_are_a_usage_error_with_a_way_out(say, capsys):
    with pytest.raises(UsageError, match="--device"):
        say("%container run --gpus all ubuntu")
    with pytest.raises(UsageError, match="Did you mean"):
        say("%container imags")
    with pytest.raises(UsageError, match="No closing quotation"):
        say("%container run ubuntu 'ls")


def test_a_cell_is_the_standard_input_of_its_interpreter(engine, say, capsys):
    say("%%container run ubuntu python\nprint(1)\n")
    spec = engine.named("create")[0][1]
    assert spec.interactive
    assert spec.command == ("python",)
    assert capsys.readouterr().out == "print(1)\n"


def test_a_cell_without_an_interpreter_goes_to_a_shell(engine, say):
    say("%%container run\nls\n")
    spec = engine.named("create")[0][1]
    assert (spec.image, spec.entrypoint) == ("host", ("/bin/sh",))
    assert "bash -s" in spec.command[1]


def test_a_cell_can_go_to_a_running_container(engine, say, capsys):
    say("%container run -d --name web ubuntu sleep 9")
    say("%%container exec web cat\nsome text\n")
    assert capsys.readouterr().out.endswith("some text\n")
    engine.containers.kill("web", signal="TERM")


def test_a_cell_goes_to_run_and_exec_only(say):
    with pytest.raises(UsageError, match="write %container ps"):
        say("%%container ps\nbody\n")
    with pytest.raises(Exception, match="use --bg"):
        say("%%container run -d ubuntu\nbody\n")


@pytest.mark.parametrize("how", ["", "--rm"])
def test_an_interrupt_stops_the_container(engine, say, interrupt, until, how):
    def stubborn(process):
        process.out("running\n")
        until(process.output.empty)  # the cell listens
        interrupt()
        names = [process.signal(), process.signal()]
        process.out("ended by " + " ".join(names))
        return 137

    engine.programs["stubborn"] = stubborn
    with pytest.raises(Interrupted, match="was stopped"):
        say(f"%container run {how} --name job ubuntu stubborn")
    assert bool(engine.containers.facts) is not bool(how)


def test_an_interrupt_is_first_a_signal_that_a_program_can_answer(
    engine, say, interrupt, until, capsys
):
    def polite(process):
        process.out("running\n")
        until(process.output.empty)
        interrupt()
        process.out(f"got {process.signal()}\n")
        return 0

    engine.programs["polite"] = polite
    with pytest.raises(KeyboardInterrupt):
        say("%container run ubuntu polite")
    assert "got INT" in capsys.readouterr().out


def test_a_job_runs_beside_the_notebook(engine, say):
    job = say("%%container run --bg --name job ubuntu cat\nfrom the cell\n")
    assert job.wait() == 0
    assert job.logs() == "from the cell\n"
    assert job.container.name == "job"
    assert job.done


def test_a_job_can_be_awaited_and_stopped(engine, say):
    job = say("job = %container run --bg ubuntu sleep 9\njob")
    assert not job.done
    job.stop()
    assert say("await job") == 143


def test_help_is_printed_not_returned(say, capsys):
    assert say("%container run --help") is None
    assert "--memory-swap" in capsys.readouterr().out
    say("%container")
    assert "Commands:" in capsys.readouterr().out


def test_loading_again_keeps_the_session_and_doubles_nothing(shell, engine, say):
    say("%container ps")
    load(shell)
    assert say("%container ps -q") == []
    assert len(shell.Completer.custom_matchers) == 1


def test_unloading_takes_everything_away(shell, engine, say):
    say("%container ps")
    unload(shell)
    unload(shell)
    assert engine.closed
    assert "container" not in shell.magics_manager.magics["line"]
    assert shell.Completer.custom_matchers == []


def test_a_browser_is_told_in_one_sentence(monkeypatch):
    from cellbox.errors import NotSupported
    from cellbox_magics.session import connect

    monkeypatch.setattr(sys, "platform", "emscripten")
    with pytest.raises(NotSupported, match="web browser"):
        connect("")


def test_loading_imports_nothing_heavy():
    code = (
        "import sys, IPython.core.interactiveshell as i; before = set(sys.modules); "
        "import cellbox_magics; cellbox_magics.load_ipython_extension(i.InteractiveShell()); "
        "heavy = {'click', 'rich', 'pyroute2', 'ipywidgets', 'pyarrow', 'cellbox.handles'}; "
        "print(sorted((set(sys.modules) - before) & heavy))"
    )
    paths = [path for path in sys.path if path.rstrip("/").endswith(("runtime", "magics"))]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(paths), "HOME": "/nonexistent", "IPYTHONDIR": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_status_words_are_the_models(engine):
    assert Status.RUNNING == "running"
