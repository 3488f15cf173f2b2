"""What ``--mount`` says."""

from __future__ import annotations

import pytest

from cellbox.build import mounts
from cellbox.build.mounts import Kind, Mount, Sharing
from cellbox.errors import InvalidArgument


def read(text, **env):
    return mounts.parse(text, lambda word: env.get(word[1:], word) if word[:1] == "$" else word)


def test_the_kinds():
    assert read("target=/a,rw") == Mount(target="/a", read_only=False)
    assert read("TYPE=Cache,dst=/a/,sharing=locked,mode=0750,uid=1,gid=2") == Mount(
        Kind.CACHE, "/a/", sharing=Sharing.LOCKED, mode=0o750, uid=1, gid=2
    )
    assert read("type=tmpfs,target=/q,size=1.5k").size == 1536
    assert read('type=bind,"source=/a,b",target=/c').source == "/a,b"
    assert read("type=$K,target=$T", K="cache", T="/x") == Mount(Kind.CACHE, "/x")
    assert read("type=secret,id=z,required,env=FOO").required


def test_what_is_not_said():
    assert read("type=cache,target=/a/").name == "/a"
    assert [read("type=ssh").name, read("type=ssh,id=x").name] == ["default", "x"]
    assert read("type=secret,target=/d/key").name == "key"
    assert read("type=secret,id=a").place == "/run/secrets/a"
    assert read("type=secret,id=a,env=A").place == ""
    assert [read("target=/a").writable, read("type=cache,target=/a").writable] == [False, True]
    assert not read("type=cache,target=/a,ro").writable


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("type=bnd,target=/a", r'unsupported mount type "bnd" \(did you mean bind\?\)'),
        ("targt=/a", r"unexpected key 'targt' in 'targt=/a' \(did you mean target\?\)"),
        ("target", "invalid field 'target' must be a key=value pair"),
        ("target=/a,required", "unexpected key 'required' for mount type 'bind'"),
        ("target=/a,size=1", "unexpected key 'size' for mount type 'bind'"),
        ("type=tmpfs,target=/a,size=x", "invalid value for size: x"),
        ("target=/a,ro=maybe", "invalid value for ro: maybe"),
        ("type=cache,target=/a,mode=9", "invalid value 9 for mode"),
        ("type=cache,target=/a,uid=-1", "invalid value -1 for uid"),
        ("type=cache,target=/a,sharing=lock", 'unsupported sharing value "lock"'),
        ("target=/a,mode=0600", 'mode not allowed for "bind" type mounts'),
        ("target=/a,sharing=locked", "invalid cache sharing set for bind mount"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=cache", 'invalid mount target ""'),
        ('"target=/a', "failed to parse csv mounts"),
    ],
)
def test_what_is_wrong(text, said):
    with pytest.raises(InvalidArgument, match=said):
        read(text)


def test_a_stage_is_not_named_by_a_variable():
    assert mounts.origin_of("type=bind,from=one,target=/$A") == "one"
    with pytest.raises(InvalidArgument, match="'from' doesn't support variable expansion"):
        mounts.origin_of("from=$A,target=/x")
