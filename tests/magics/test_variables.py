"""Variables into and out of a cell; what comes back is hostile until read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.container import MountKind, RunSpec
from cellbox_magics import variables
from cellbox_magics.variables import Exchange

NAMES = {"n": 5, "text": "é", "data": {"a": [1, None, 2.5, True]}, "raw": b"x", "keys": {1: 2}}


def run_here(exchange: Exchange, code: int = 0) -> str:
    """Do what the container would: the script, on the shared directory; its standard error."""
    done = subprocess.run(
        [sys.executable],
        input=exchange.script,
        env={**os.environ, "CELLBOX_EXCHANGE": str(exchange.directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stderr


def test_json_values_pass_both_ways():
    body = "out = [n + 1, text, data]\n"
    with Exchange(NAMES, ["n", "text", "data"], ["out"], body) as exchange:
        run_here(exchange)
        values, lines = exchange.collect()
    assert values == {"out": [6, "é", {"a": [1, None, 2.5, True]}]}
    assert lines == ["out list, 42 B"]
    assert not exchange.directory.exists()


def test_the_mounts_are_read_only_in_and_fresh_out():
    with Exchange(NAMES, ["n"], ["out"], "") as exchange:
        first, second = exchange.spec(RunSpec("python")).mounts
        assert (first.kind, first.target, first.read_only) == (
            MountKind.BIND, "/run/cellbox/in", True,
        )  # fmt: skip
        assert (second.target, second.read_only) == ("/run/cellbox/out", False)
        assert os.stat(exchange.directory).st_mode & 0o777 == 0o700
        assert os.listdir(second.source) == []


def test_names_are_checked_before_anything_runs():
    with pytest.raises(NameError, match="'nothing' is not defined"):
        Exchange(NAMES, ["nothing"], [], "")
    with pytest.raises(InvalidArgument, match="python:3.12"):
        Exchange(NAMES, ["python:3.12"], [], "")
    with pytest.raises(InvalidArgument, match="not the name"):
        Exchange(NAMES, [], ["../x"], "")


@pytest.mark.parametrize(("name", "kind"), [("raw", "bytes"), ("keys", "dict")])
def test_what_cannot_go_in_is_refused_by_name_and_type(name, kind):
    with pytest.raises(InvalidArgument, match=f"{name} cannot go .* a {kind}"):
        Exchange(NAMES, [name], [], "").__enter__()


def test_a_value_that_holds_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(InvalidArgument, match="list"):
        Exchange({"loop": loop}, ["loop"], [], "").__enter__()


def test_what_cannot_come_out_is_refused_in_the_cell():
    with Exchange(NAMES, [], ["out"], "out = {1, 2}") as exchange:
        assert "out cannot leave the cell: it holds a set" in run_here(exchange, 1)
    with Exchange(NAMES, [], ["out"], "") as exchange:
        assert "did not make out" in run_here(exchange, 1)


def test_a_traceback_shows_the_cells_own_lines():
    with Exchange(NAMES, [], [], "x = 1\nx / 0\n") as exchange:
        told = run_here(exchange, 1)
    assert "line 2" in told
    assert "x / 0" in told


def hostile(name: str, write) -> Exchange:
    """An exchange whose container wrote a fair manifest and then a trap."""
    exchange = Exchange({}, [], [name], "").__enter__()
    out = exchange.directory / "out"
    (out / "manifest.json").write_text(json.dumps({name: {"kind": "json"}}))
    write(out / name)
    return exchange


@pytest.mark.parametrize(
    "trap",
    [
        lambda path: path.symlink_to("/etc/passwd"),
        lambda path: os.mkfifo(path),
        lambda path: path.mkdir(),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_text("{"),
        lambda path: None,
    ],
    ids=["link", "pipe", "directory", "not text", "deep", "not json", "missing"],
)
def test_a_trap_is_a_clear_error(trap):
    exchange = hostile("x", trap)
    with pytest.raises(InvalidArgument, match=r"^x |did not write x"):
        exchange.collect()
    exchange.__exit__(None, None, None)


def test_sizes_are_capped_both_ways(monkeypatch):
    monkeypatch.setattr(variables, "MAX_JSON", 20)
    with pytest.raises(InvalidArgument, match="too large"):
        Exchange({"big": "x" * 50}, ["big"], [], "").__enter__()
    exchange = hostile("x", lambda path: path.write_text("1" * 50))
    (exchange.directory / "out" / "manifest.json").write_text('{"x":{"kind":"json"}}'[:20])
    with pytest.raises(InvalidArgument):
        exchange.collect()
    exchange.__exit__(None, None, None)


@pytest.mark.parametrize("manifest", ["[]", '{"x": 5}', '{"x": {"kind": "pickle"}}', "{}"])
def test_only_known_kinds_are_read(manifest):
    exchange = hostile("x", lambda path: path.write_text("5"))
    (exchange.directory / "out" / "manifest.json").write_text(manifest)
    with pytest.raises(InvalidArgument, match="did not write x"):
        exchange.collect()
    exchange.__exit__(None, None, None)


def test_tables_pass_through_arrow():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install pyarrow")
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]}, index=pandas.Index([7, 8], name="k"))
    body = "out = df.assign(c=df.a * 2)\n"
    with Exchange({"df": frame}, ["df"], ["out"], body) as exchange:
        run_here(exchange)
        values, lines = exchange.collect()
    assert values["out"]["c"].tolist() == [2, 4]
    assert values["out"].index.name == "k"
    assert values["out"].index.tolist() == [7, 8]
    assert lines[0].startswith("out 2 x 3, ")


def test_a_hostile_table_is_a_clear_error():
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install pyarrow")
    exchange = hostile("x", lambda path: path.write_bytes(b"ARROW1\0\0 no table"))
    manifest = exchange.directory / "out" / "manifest.json"
    manifest.write_text('{"x": {"kind": "arrow"}}')
    with pytest.raises(InvalidArgument, match="did not come back as a table"):
        exchange.collect()
    table = arrow.table({"a": arrow.array([b"0" * 16], arrow.binary(16))})
    typed = table.cast(arrow.schema([("a", arrow.binary(16))]))
    field = arrow.field("a", arrow.uuid())
    typed = arrow.table(
        [typed["a"].combine_chunks().cast(arrow.uuid())], schema=arrow.schema([field])
    )
    with arrow.ipc.new_file(str(exchange.directory / "out" / "x"), typed.schema) as file:
        file.write_table(typed)
    with pytest.raises(InvalidArgument, match="extension type"):
        exchange.collect()
    exchange.__exit__(None, None, None)


def test_sizes_are_told_in_words():
    assert variables.describe("x", 5, 28_700_000) == "x int, 28.7 MB"


def test_a_cell_with_variables(engine, say, capsys):
    """The whole way: line, mounts, script on standard input, results in the notebook."""

    def python(process):
        script = process.read_all()
        mounts = {mount.target: mount.source for mount in process.spec.mounts}
        directory = Path(mounts["/run/cellbox/in"]).parent
        done = subprocess.run(
            [sys.executable],
            input=script,
            env={**os.environ, "CELLBOX_EXCHANGE": str(directory)},
            capture_output=True,
            check=False,
        )
        process.out(done.stdout)
        process.err(done.stderr.decode())
        return done.returncode

    engine.programs["python3"] = python
    say("x = 20\n")
    say("%%container run -i x -o y ubuntu\ny = x + 1\nprint('inside')\n")
    assert say("y") == 21
    assert "inside\ny int, 2 B\n" in capsys.readouterr().out
    with pytest.raises(NameError):
        say("%%container run -i nothing ubuntu python3\n1\n")
    with pytest.raises(InvalidArgument, match="this cell runs bash"):
        say("%%container run -o y ubuntu bash\n1\n")
    assert say("%%container run --no-raise -o y ubuntu python3\n1/0\n") == 1
    with pytest.raises(InvalidArgument, match="--bg"):
        say("%%container run --bg -o y ubuntu python3\n1\n")
    with pytest.raises(Exception, match="exit code 1"):
        say("%%container run -o y ubuntu python3\n1/0\n")
