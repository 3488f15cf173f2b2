"""The text of a build."""

from __future__ import annotations

from cellbox.build.report import Output, Report


def test_steps_are_counted_and_never_more_than_there_are():
    told: list[object] = []
    report = Report(told.append, 1)
    report.step("FROM x")
    report.step("RUN more")
    assert told == ["Step 1/1 : FROM x\n", "Step 2/2 : RUN more\n"]


def test_values_that_nobody_asked_for():
    told: list[object] = []
    report = Report(told.append, 1)
    report.unused([])
    report.unused(["b", "a"])
    report.triggers(1)
    assert told == [
        "[Warning] One or more build-args [a b] were not consumed\n",
        "# Executing 1 build trigger\n",
    ]


def test_nobody_needs_to_listen():
    Report(None, 1).step("FROM x")


def test_characters_that_come_in_pieces_are_whole():
    told: list[object] = []
    output = Output(told.append)
    data = "é".encode()
    output.write("stdout", data[:1])
    output.write("stderr", b"red")
    output.write("stdout", data[1:] + data[:1])
    output.end()
    assert told == ["\x1b[91mred\x1b[0m", "é", "\ufffd"]
