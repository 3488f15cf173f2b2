"""Names in paths: none of them leads to another request."""

from __future__ import annotations

import pytest

from cellbox.errors import InvalidReference, NotFound
from cellbox.remote import paths


def test_names_are_quoted():
    assert paths.container("/web", "/json") == "/containers/web/json"
    assert paths.container("a/../b?x#y", "/json") == "/containers/a%2F..%2Fb%3Fx%23y/json"
    assert paths.network("n w") == "/networks/n%20w"
    assert paths.volume("v%") == "/volumes/v%25"
    assert paths.image("box:5000/a/b@sha256:1", "/tag") == "/images/box:5000/a/b@sha256:1/tag"
    assert paths.image("Bad Name?") == "/images/Bad%20Name%3F"
    assert paths.distribution("lab/tool:1") == "/distribution/lab/tool:1/json"


@pytest.mark.parametrize("ref", ["", "/", ".", ".."])
def test_what_is_no_name(ref):
    for path in (paths.container, paths.network, paths.volume):
        with pytest.raises(NotFound):
            path(ref)


@pytest.mark.parametrize("ref", ["", "/", "a/../../containers/b", "a//b", "./a", ".."])
def test_what_is_no_image(ref):
    with pytest.raises(InvalidReference, match="invalid reference format"):
        paths.image(ref)
