"""From a URL to an engine."""

from __future__ import annotations

import os

import pytest

from cellbox.connect import connect
from cellbox.errors import InvalidArgument, NotSupported
from cellbox.local.places import run_directory


def test_without_a_url_it_is_the_store_of_the_environment(store):
    assert connect().url == f"local:{store}"


def test_a_path_names_another_store(store, tmp_path):
    place = tmp_path / "other"
    engine = connect(f"local:{place}")
    assert engine.url == f"local:{place}"
    assert run_directory(place) != run_directory(store)
    os.rmdir(run_directory(place))


@pytest.mark.parametrize("url", ["unix:///run/docker.sock", "tcp://a:1", "ssh://a", "https://a"])
def test_engines_elsewhere_are_refused_with_a_sentence(url):
    with pytest.raises(NotSupported, match="leave the URL out"):
        connect(url)


@pytest.mark.parametrize("url", ["local", "local:", "nosuch:x", "/var/lib/cellbox", ":"])
def test_what_is_no_url(url):
    with pytest.raises(InvalidArgument, match="is no engine"):
        connect(url)
