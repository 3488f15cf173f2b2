"""What needs a cluster."""

import pytest

ID = "x"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/swarm"),
        ("POST", "/swarm/update?version=1"),
        ("GET", "/swarm/unlockkey"),
        ("GET", "/nodes"),
        ("DELETE", "/nodes/x?force=1"),
        ("GET", "/v1.30/services?status=1"),
        ("POST", "/services/create"),
        ("POST", "/services/x/update?version=1"),
        ("GET", "/services/x/logs"),
        ("GET", "/tasks/x"),
        ("GET", "/tasks/x/logs"),
        ("GET", "/secrets"),
        ("POST", "/configs/create"),
        ("DELETE", "/configs/x"),
    ],
)
def test_only_a_manager_answers(ask, method, path):
    answer = ask(method, path, {} if method == "POST" else None)
    assert answer.status == 503
    assert answer.json["message"].startswith("This node is not a swarm manager. Use")


@pytest.mark.parametrize("path", ["/swarm/leave?force=1", "/swarm/unlock"])
def test_nobody_leaves_where_nobody_is(ask, path):
    answer = ask("POST", path)
    assert (answer.status, answer.json) == (503, {"message": "This node is not part of a swarm"})


@pytest.mark.parametrize("path", ["/swarm/init", "/swarm/join"])
def test_there_is_no_way_in(ask, path):
    answer = ask("POST", path, {"ListenAddr": "0.0.0.0"})
    assert answer.status == 501
    assert "swarm" in answer.json["message"]
