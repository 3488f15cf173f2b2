"""Directories for the steps of builds: who has one, and what is left of whoever was killed."""

from __future__ import annotations

import pytest

from cellbox.build.mounts import Sharing
from cellbox.errors import Cancelled
from cellbox.local.build_caches import BuildCaches


@pytest.fixture
def caches(engine):
    return BuildCaches(engine.images._store)


def never():
    pass


def give_up():
    raise Cancelled("enough")


def test_a_cache_is_found_again(caches, tar_of):
    with caches.cache("c", lambda: tar_of(f=b"x"), Sharing.SHARED, never) as place:
        pass
    with caches.cache("c", tar_of, Sharing.SHARED, never) as again:
        assert again == place


def test_how_it_is_shared(caches, tar_of):
    with caches.cache("c", tar_of, Sharing.SHARED, never) as one:
        with caches.cache("c", tar_of, Sharing.SHARED, never) as two:
            assert one == two
        with caches.cache("c", tar_of, Sharing.PRIVATE, never) as own:
            assert own != one
        with (
            pytest.raises(Cancelled),
            caches.cache("c", tar_of, Sharing.LOCKED, give_up),
        ):
            pass


def test_what_nobody_has_is_pruned(caches, tar_of):
    with caches.cache("a", lambda: tar_of(f=b"x" * 5000), Sharing.SHARED, never):
        assert [used for _, used in caches.sizes().values()] == [True]
        assert caches.prune() == {}
    (size,) = caches.prune().values()
    assert size >= 5000 and caches.sizes() == {}


def test_what_a_killed_build_has_left_is_swept(engine, caches, tar_of):
    left = engine.images._store.root / "build-cache" / ".new-dead"
    left.mkdir(parents=True)
    with caches.fleeting(tar_of):
        assert not left.exists()
    assert list(left.parent.iterdir()) == []
