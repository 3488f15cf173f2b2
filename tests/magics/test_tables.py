"""Results that are objects."""

from __future__ import annotations

from cellbox_magics.tables import Codes, Document, Facts, Lines, Table, columns, html_table


def test_a_table_is_the_sequence_of_its_objects():
    table = Table(("A", "B"), [("1", "x"), ("22", "y")], ["one", "two"])
    assert list(table) == ["one", "two"]
    assert (len(table), table[0], table[-1:]) == (2, "one", ["two"])
    assert table == ["one", "two"]
    assert table != 5


def test_a_table_without_objects_holds_its_rows():
    assert list(Table(("A",), [("1",)])) == [("1",)]
    assert list(Table(("A",), [])) == []


def test_columns_are_aligned_as_dockers():
    assert columns([("ID", "A LONG TITLE", "N"), ("abc", "x", "y")]) == [
        "ID        A LONG TITLE   N",
        "abc       x              y",
    ]


def test_text_cannot_move_the_cursor():
    assert "\x1b" not in repr(Table(("A",), [("\x1b[2Jx\ny",)]))


def test_html_is_static_and_escaped():
    html = html_table(("<A>",), [("<script>alert(1)</script>&",)])
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "&lt;A&gt;" in html
    assert "class=" not in html


def test_lines_codes_documents_and_facts_print_as_docker_does():
    assert repr(Lines(["a", "b"])) == "a\nb"
    assert repr(Codes([0, 3])) == "0\n3"
    assert repr(Document([{"Id": "é"}])) == '[\n    {\n        "Id": "é"\n    }\n]'
    facts = Facts({"a": 1, "b": ("x", "y"), "c": {"k": "v"}, "d": ()})
    assert repr(facts) == "a: 1\nb: x, y\nc: k=v\nd: none"
    assert "<table" in facts._repr_html_()
