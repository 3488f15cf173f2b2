"""The ``cellbox`` command in a shell: exit codes, streams, a terminal, completion and help."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.usefixtures("engine")


# Exit codes and streams ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("run", "--rm", "host", "true"), 0),
        (("run", "--rm", "host", "sh", "-c", "exit 7"), 7),
        (("run", "--rm", "--init", "host", "sh", "-c", "kill -KILL $$"), 137),
        (("run", "--rm", "--nosuchflag", "host"), 125),
        (("run", "--rm", "--pull", "never", "nosuchimage", "true"), 125),
        (("run", "--rm", "host", "/etc"), 126),
        (("run", "--rm", "host", "nosuchprogram"), 127),
        (("logs", "nosuchcontainer"), 1),
        (("nosuchverb",), 125),
    ],
)
def test_exit_codes_are_dockers(command, words, code):
    ended = command(*words)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    if code in (1, 125, 126, 127):
        assert ended.stderr.startswith("cellbox: ")
        assert ended.stdout == ""


def test_streams_stay_apart(command):
    ended = command("run", "--rm", "host", "sh", "-c", "echo out; echo err >&2")
    assert (ended.stdout, ended.stderr) == ("out\n", "err\n")


def test_standard_input_reaches_the_program_and_ends(command):
    text = "line\n" * 100_000
    ended = command("run", "--rm", "-i", "host", "wc", "-l", stdin=text)
    assert ended.stdout.strip() == "100000"
    assert command("run", "--rm", "host", "cat", stdin="unasked").stdout == ""


def test_a_reader_that_goes_away_is_no_error_of_ours(command):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    line = f"{sys.executable} -m cellbox_magics.command run --rm host yes | head -n 1"
    ended = subprocess.run(line, shell=True, env=environment, capture_output=True, text=True,
                           timeout=60)  # fmt: skip
    assert ended.stdout == "y\n"
    assert "Traceback" not in ended.stderr


def test_a_containers_life_in_dockers_words(command):
    id = command("run", "-d", "--name", "web", "--label", "a=b", "host", "sleep", "1000").stdout
    assert re.fullmatch(r"[0-9a-f]{64}\n", id)
    assert command("ps", "-q", "--no-trunc").stdout == id
    assert command("ps", "--format", "{{.Names}} {{.Image}}").stdout == "web host\n"
    assert command("exec", "web", "sh", "-c", "echo $0; exit 3").returncode == 3
    assert command("inspect", "-f", "{{.State.Status}}", "web").stdout == "running\n"
    assert command("pause", "web").stdout == "web\n"
    assert "(Paused)" in command("ps").stdout
    assert command("unpause", "web").returncode == 0
    assert command("rename", "web", "site").returncode == 0
    assert command("stop", "-t", "0", "site").stdout == "site\n"
    assert command("wait", "site").stdout == "137\n"
    assert command("rm", "site").stdout == "site\n"
    assert command("ps", "-aq").stdout == ""


def test_a_signal_to_the_command_reaches_the_program(command, until):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        [sys.executable, "-m", "cellbox_magics.command", "run", "--rm", "host", "sh", "-c", script],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == "caught\n"
    assert process.wait(30) == 9


# A terminal --------------------------------------------------------------------------------------


class Screen:
    """The command under a pseudo-terminal."""

    def __init__(self, *words: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
            os.execv(sys.executable, [sys.executable, "-m", "cellbox_magics.command", *words])
        self.seen = ""

    def until(self, text: str) -> str:
        """Read until ``text`` was shown."""
        deadline = time.monotonic() + 30
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 4096).decode()
        shown, self.seen = self.seen, ""
        return shown

    def type(self, text: str) -> None:
        """Type keys."""
        os.write(self.fd, text.encode())

    def end(self) -> int:
        """Wait for the end; the exit code."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    if not os.read(self.fd, 4096):
                        break
                except OSError:  # the other side has closed the terminal
                    break
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_an_interactive_shell():
    screen = Screen("run", "--rm", "-it", "host", "sh")
    screen.until("# ")
    screen.type("test -t 0 && echo on a ter''minal\r")
    screen.until("on a terminal")
    screen.type("exit 5\r")
    assert screen.end() == 5


def test_ctrl_c_reaches_the_program_not_the_command():
    # Short sleeps: a shell that is struck before it waits sees to its trap after the wait only.
    screen = Screen(
        "run",
        "--rm",
        "-it",
        "host",
        "sh",
        "-c",
        "trap 'echo caught; exit 6' INT; echo ready; while :; do sleep 0.05; done",
    )
    screen.until("ready")
    screen.type("\x03")
    screen.until("caught")
    assert screen.end() == 6


def test_the_keys_that_detach(command):
    screen = Screen("run", "-it", "--name", "stays", "host", "sh")
    screen.until("# ")
    screen.type("\x10\x11")
    assert screen.end() == 0
    assert command("ps", "--format", "{{.Names}}").stdout == "stays\n"


# Help and completion -----------------------------------------------------------------------------

VERBS = """run exec create start attach stop restart kill pause unpause wait rm
rename update ps logs inspect top stats port diff cp export commit
images rmi pull tag history save load import events info version doctor
""".split()


def test_help_lists_every_verb(command):
    ended = command("--help")
    assert ended.returncode == 0
    listed = re.findall(r"^  (\w+) ", ended.stdout, re.MULTILINE)
    assert set(VERBS) <= set(listed)


def test_every_verb_has_help_of_its_own(command):
    for words in (*((verb,) for verb in VERBS), ("container", "prune"), ("image", "prune"),
                  ("system", "df"), ("system", "check")):  # fmt: skip
        ended = command(*words, "--help")
        assert ended.returncode == 0, words
        assert ended.stdout.startswith(f"Usage: cellbox {' '.join(words)}"), words
        assert "--help" in ended.stdout


def test_the_shell_completes_verbs_flags_and_names(command):
    assert command("create", "--name", "web", "host", "true").returncode == 0

    def complete(line: str) -> list[str]:
        words = line.split(" ")
        ended = command(_CELLBOX_COMPLETE="bash_complete", COMP_WORDS=line,
                        COMP_CWORD=str(len(words) - 1))  # fmt: skip
        return [entry.partition(",")[2] for entry in ended.stdout.split()]

    assert {"run", "rm", "rmi", "rename", "restart"} <= set(complete("cellbox r"))
    assert "--memory" in complete("cellbox run --mem")
    assert complete("cellbox rm w") == ["web"]


def test_bash_is_told_how_to_complete(command):
    ended = command(_CELLBOX_COMPLETE="bash_source")
    assert "_cellbox_completion" in ended.stdout
