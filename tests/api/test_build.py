"""Building, which is yet to come."""

import pytest


@pytest.mark.parametrize("path", ["/build?t=x&version=1", "/build/cancel?id=1"])
def test_a_build_is_refused_in_one_sentence(ask, path):
    answer = ask("POST", path, b"a tar" * 100_000, Content_Type="application/x-tar")
    assert answer.status == 501
    assert "cannot build" in answer.json["message"]


def test_there_is_no_cache_to_prune(ask):
    answer = ask("POST", "/build/prune?all=1")
    assert answer.json == {"CachesDeleted": None, "SpaceReclaimed": 0}


@pytest.mark.parametrize("path", ["/session", "/grpc"])
def test_buildkit_is_told_what_to_do(ask, path):
    answer = ask("POST", path, Connection="Upgrade", Upgrade="h2c")
    assert answer.status == 501
    assert "DOCKER_BUILDKIT=0" in answer.json["message"]
