"""Here-documents in the words of an instruction."""

from __future__ import annotations

import pytest

from cellbox.build.heredocs import Heredoc, find, of_word


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("<<EOF", Heredoc("EOF")),
        ("<<-EOF", Heredoc("EOF", chomp=True)),
        ("<<'EOF'", Heredoc("EOF", expand=False)),
        ('<<E"O"F', Heredoc("EOF", expand=False)),
        ("3<<EOF", Heredoc("EOF", descriptor=3)),
        ("<<$X", Heredoc("$X")),
        ("<<a.txt", Heredoc("a.txt")),
        ("<<", None),
        ("<<<EOF", None),
        ("<EOF", None),
        ("<<'EOF", None),
        ("x<<EOF", None),
    ],
)
def test_a_word(word, found):
    assert of_word(word) == found


def test_several_in_one_line():
    assert [one.name for one in find("RUN cat <<A - <<-B && cat << C 'x <<D'")] == ["A", "B", "C"]
    assert find("RUN echo 'unended <<A") == []


def test_leading_tabs_are_chomped():
    assert Heredoc("E", "\t\ta\n b\n\tc\n", chomp=True).text == "a\n b\nc\n"
    assert Heredoc("E", "\ta\n").text == "\ta\n"
