"""Go templates, as people write them behind --format."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.errors import InvalidArgument
from cellbox_magics.template import parse

DATA = {
    "ID": "abc", "Names": "web", "Labels": {"b": "2", "a": "1"}, "Empty": [],
    "State": {"Running": True, "Pid": 7, "Health": None},
    "Mounts": [{"Source": "/a", "RW": False}, {"Source": "/b", "RW": True}],
    "Label": {"x": "y"}, "Deep": {"80/tcp": [{"Port": "8080"}]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain", "plain"),
        ("{{.ID}}:{{ .Names }}", "abc:web"),
        ("{{.ID}}\\t{{.Names}}\\n", "abc\tweb\n"),
        ("{{.State.Running}} {{.State.Pid}} {{.State.Health}}", "true 7 <no value>"),
        ("{{json .State}}", '{"Running":true,"Pid":7,"Health":null}'),
        ("{{.State | json}}", '{"Running":true,"Pid":7,"Health":null}'),
        ("{{.Labels}} {{.Empty}}", "map[a:1 b:2] []"),
        ("{{upper .Names}} {{.Names | lower | title}}", "WEB Web"),
        ('{{join (split "a,b" ",") "-"}}', "a-b"),
        ('{{index .Labels "a"}}{{index .Labels "none"}}', "1"),
        ("{{(index .Mounts 1).Source}}", "/b"),
        ('{{(index (index .Deep "80/tcp") 0).Port}}', "8080"),
        ('{{.Label "x"}}', "y"),
        ("{{len .Mounts}}", "2"),
        ("{{range .Mounts}}{{.Source}} {{end}}", "/a /b "),
        ("{{range $i, $m := .Mounts}}{{$i}}={{$m.Source}};{{end}}", "0=/a;1=/b;"),
        ("{{range $k, $v := .Labels}}{{$k}}{{$v}}{{end}}", "a1b2"),
        ("{{range $m := .Mounts}}{{$m.RW}}{{$.ID}}{{end}}", "falseabctrueabc"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Empty}}x{{end}}y", "y"),
        ("{{range .Mounts}}{{if .RW}}{{.Source}}{{end}}{{end}}", "/b"),
        ("{{if .Empty}}a{{else}}{{if .ID}}b{{end}}{{end}}c", "bc"),
        ('{{if eq .ID "abc"}}yes{{end}}{{if not .Empty}}!{{end}}', "yes!"),
        ("a {{- .ID -}} b", "aabcb"),
        ("{{/* a comment */}}x", "x"),
        ('{{println .ID "z"}}{{print "a" 1}}', "abc z\na1"),
        ("{{truncate .Names 2}}{{`raw`}}", "weraw"),
        ('{{"a\\"b"}}', 'a"b'),
    ],
)
def test_what_a_template_says(source, text):
    assert parse(source).render(DATA) == text


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("{{.Nope}}", "there are .ID"),
        ("{{.ID.More}}", "no fields"),
        ("{{.ID", "without }}"),
        ("{{end}}", "without a range"),
        ("{{range .Mounts}}", "no {{end}}"),
        ("{{nope .ID}}", "json"),
        ("{{}}", "cannot be read"),
        ("{{.ID | }}", "cannot be read"),
        ("{{(.ID}}", "open ("),
        ("{{.ID)}}", "cannot be read"),
        ("{{%}}", "cannot be read"),
        ("{{$x}}", "not set"),
        ("{{len 5}}", "len"),
        ('{{"a" "b"}}', "takes none"),
        ('{{.Labels "a" "b"}}', "takes none"),
    ],
)
def test_what_is_wrong_with_a_template(source, hint):
    with pytest.raises(InvalidArgument) as caught:
        parse(source).render(DATA)
    assert hint in str(caught.value)


@given(st.text(alphabet='{}.|()$ "abjson`range', max_size=30))
def test_any_text_is_a_template_or_a_clear_error(source):
    try:
        parse(source).render(DATA)
    except InvalidArgument:
        pass
