"""The cellbox command: results, errors, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cellbox_magics import command
from cellbox_magics.session import Session
from cellbox_magics.terminal import Terminal


@pytest.fixture
def cellbox(engine, tmp_path):
    """Do a command; exit code, standard output, standard error."""

    def run(*words: str, stdin: str = "") -> tuple[int, str, str]:
        paths = [tmp_path / name for name in ("in", "out", "err")]
        paths[0].write_text(stdin)
        files = [open(path, mode) for path, mode in zip(paths, ("rb", "wb", "wb"), strict=True)]
        fds = tuple(file.fileno() for file in files)
        try:
            code = command.answer(Terminal(Session(connect=lambda url: engine), fds), words)
        finally:
            for file in files:
                file.close()
        return code, paths[1].read_text(), paths[2].read_text()

    return run


def test_the_exit_code_is_the_programs(cellbox):
    assert cellbox("run", "ubuntu", "hello") == (0, "hello\n", "")
    assert cellbox("run", "ubuntu", "fail") == (3, "", "it went wrong\n")


def test_input_goes_to_a_program_that_wants_it(cellbox):
    assert cellbox("run", "-i", "ubuntu", "cat", stdin="text")[1] == "text"


def test_what_the_engine_refuses_is_125(cellbox, engine):
    code, out, err = cellbox("run", "nowhere", "ls")
    assert (code, out, err) == (125, "", "cellbox: No such image: nowhere\n")
    assert cellbox("run", "--memory", "much", "ubuntu")[0] == 125
    assert cellbox("run", "ubuntu", "nothing")[0] == 127
    assert cellbox("rm", "nothing")[0] == 1


def test_wrong_words_are_125_with_a_way_out(cellbox):
    code, out, err = cellbox("run", "--nmae", "x", "ubuntu")
    assert code == 125
    assert "Did you mean" in err or "--name" in err
    assert "See 'cellbox run --help'." in err
    assert cellbox("stp")[0] == 125


def test_ids_are_printed_as_docker_prints_them(cellbox, engine):
    code, out, _ = cellbox("run", "-d", "--name", "web", "ubuntu", "sleep", "9")
    assert (code, out.strip()) == (0, engine.containers.get("web").id)
    assert cellbox("ps", "-q")[1].strip() == engine.containers.get("web").short_id
    assert cellbox("ps")[1].startswith("CONTAINER ID   IMAGE")
    engine.containers.kill("web", signal="TERM")
    assert cellbox("wait", "web")[1] == "143\n"
    assert cellbox("rename", "web", "other") == (0, "", "")


def test_several_errors_are_told_each(cellbox):
    code, out, err = cellbox("rm", "a", "b")
    assert code == 1
    assert err.splitlines()[:2] == [
        "cellbox: No such container: a", "cellbox: No such container: b",
    ]  # fmt: skip


def test_a_file_that_cannot_be_written_is_a_sentence(cellbox):
    code, _, err = cellbox("save", "-o", "/nowhere/x", "ubuntu")
    assert (code, err) == (1, "cellbox: /nowhere/x: No such file or directory\n")


def test_a_traceback_can_be_asked_for(cellbox, monkeypatch):
    monkeypatch.setenv("CELLBOX_DEBUG", "1")
    with pytest.raises(Exception, match="No such container"):
        cellbox("stop", "nothing")


def test_notebook_flags_are_not_in_the_shell(cellbox):
    assert cellbox("run", "--bg", "ubuntu")[0] == 125


def test_no_words_are_help(cellbox, capsys):
    code, out, _ = cellbox()
    assert code == 0
    assert "Commands:" in out
    assert cellbox("--help")[0] == 0
    assert "Manage containers" in capsys.readouterr().out
    assert cellbox("--version")[0] == 0
    assert capsys.readouterr().out.startswith("cellbox version ")


def test_a_fault_of_ours_is_a_sentence_too(cellbox, engine):
    engine.info = lambda: None
    code, _, err = cellbox("info")
    assert code == 1
    assert "fault of cellbox itself" in err
    assert "Traceback" not in err


def test_interrupts_are_130(cellbox, engine):
    def interrupted(*words: object, **how: object) -> None:
        raise KeyboardInterrupt

    engine.containers.list = interrupted
    assert cellbox("ps")[0] == 130


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = [path for path in sys.path if path.rstrip("/").endswith(("runtime", "magics"))]
    return subprocess.run(
        [sys.executable, "-m", "cellbox_magics.command", *words],
        env={**os.environ, "PYTHONPATH": ":".join(paths), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_imports_neither_engine_nor_rich():
    code = (
        "import sys; from cellbox_magics.command import main; main(['--help']); "
        "print(sorted({'rich', 'urllib3', 'IPython', 'asyncio', 'cellbox.engine', "
        "'cellbox.handles'} & set(sys.modules)))"
    )
    paths = [path for path in sys.path if path.rstrip("/").endswith(("runtime", "magics"))]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": ":".join(paths)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "run " in done.stdout


def test_the_shell_completes_words():
    done = process(_CELLBOX_COMPLETE="bash_complete", COMP_WORDS="cellbox st", COMP_CWORD="1")
    assert done.stdout.split() == ["plain,start", "plain,stop", "plain,stats"]
    assert "complete" in process(_CELLBOX_COMPLETE="bash_source").stdout


def test_a_reader_that_goes_away_ends_the_command_quietly():
    paths = [path for path in sys.path if path.rstrip("/").endswith(("runtime", "magics"))]
    code = (
        "import sys; from cellbox_magics import command as c\n"
        "def gone(*a): raise BrokenPipeError\n"
        "c.answer = gone\n"
        "sys.exit(c.main(['ps']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": ":".join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
