"""Networks over the API."""

import pytest

from cellbox.errors import AlreadyExists, NotFound, PermissionDenied
from cellbox.model.network import Endpoint, EndpointSpec, Network, NetworkSpec, Subnet

ID = "a" * 64
SPEC = NetworkSpec("lab", subnets=(Subnet("10.1.0.0/24", "10.1.0.1"),), labels={"k": "v"})
ENDPOINT = Endpoint("e" * 64, "lab", ID, "c" * 64, "web", ip="10.1.0.2/24")
LAB = Network(ID, SPEC, 100.0, (ENDPOINT,))
EMPTY = Network("b" * 64, NetworkSpec("old"), 100.0)
BRIDGE = Network("d" * 64, NetworkSpec("bridge"), 1.0, built_in=True)


@pytest.fixture
def networks(scripted):
    scripted.networks.answers = {
        "get": LAB,
        "list": [BRIDGE, LAB, EMPTY],
        "create": LAB,
    }
    return scripted.networks


def test_one_network_tells_who_is_in_it(ask, networks):
    told = ask("GET", "/v1.45/networks/lab?verbose=true&scope=local").json
    assert (told["Name"], told["Id"], told["Driver"]) == ("lab", ID, "bridge")
    assert told["IPAM"]["Config"] == [{"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.1"}]
    assert told["Containers"]["c" * 64]["IPv4Address"] == "10.1.0.2/24"


def test_a_list_does_not(ask, networks):
    told = ask("GET", "/networks?filters=%7B%22driver%22%3A%7B%22bridge%22%3Atrue%7D%7D").json
    assert [one["Name"] for one in told] == ["bridge", "lab", "old"]
    assert all(one["Containers"] == {} for one in told)
    assert networks.calls == [("list", {"filters": {"driver": ["bridge"]}})]


def test_a_network_is_made_as_asked(ask, networks):
    body = {
        "Name": "lab",
        "CheckDuplicate": True,
        "IPAM": {"Config": [{"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.1"}]},
        "Labels": {"k": "v"},
    }
    answer = ask("POST", "/networks/create", body)
    assert (answer.status, answer.json) == (201, {"Id": ID, "Warning": ""})
    assert networks.calls == [("create", SPEC)]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (AlreadyExists("network with name lab already exists"), 409),
        (PermissionDenied("Pool overlaps with other one on this address space"), 403),
        (NotFound("network driver", "x"), 404),
    ],
)
def test_what_cannot_be_made_is_told_with_its_status(ask, networks, error, status):
    networks.answers["create"] = error
    answer = ask("POST", "/networks/create", {"Name": "lab"})
    assert (answer.status, answer.json) == (status, {"message": str(error)})


def test_remove(ask, networks):
    answer = ask("DELETE", "/networks/lab")
    assert (answer.status, answer.body) == (204, b"")
    assert networks.calls == [("remove", "lab")]


def test_what_is_not_there_is_told_in_dockers_words(ask, networks):
    networks.answers["get"] = NotFound("network", "nope")
    answer = ask("GET", "/networks/nope")
    assert (answer.status, answer.json) == (404, {"message": "network nope not found"})


def test_connect_and_disconnect(ask, networks):
    config = {"Aliases": ["db"], "IPAMConfig": {"IPv4Address": "10.1.0.9"}}
    body = {"Container": "web", "EndpointConfig": config}
    assert ask("POST", "/networks/lab/connect", body).status == 200
    assert ask("POST", "/networks/lab/connect", {"Container": "web"}).status == 200
    body = {"Container": "web", "Force": True}
    assert ask("POST", "/networks/lab/disconnect", body).status == 200
    assert networks.calls == [
        ("connect", "lab", "web", EndpointSpec("lab", ("db",), "10.1.0.9")),
        ("connect", "lab", "web", EndpointSpec("lab")),
        ("disconnect", "lab", "web", {"force": True}),
    ]


def test_a_body_of_another_shape_is_refused(ask, networks):
    assert ask("POST", "/networks/lab/connect", {"Container": 1}).status == 400
    assert ask("POST", "/networks/lab/connect", b"{", Content_Type="text/plain").status == 400
    assert networks.calls == []


def test_prune_takes_what_nobody_is_in(ask, networks):
    assert ask("POST", "/networks/prune").json == {"NetworksDeleted": ["old"]}
    assert networks.calls == [("list",), ("remove", "old")]


def test_prune_takes_durations_and_labels(ask, networks):
    assert ask("POST", "/networks/prune?filters={%22label%22:[%22k%22]}").json == {
        "NetworksDeleted": None
    }
    assert ask("POST", "/networks/prune?filters={%22until%22:[%221h%22]}").json == {
        "NetworksDeleted": ["old"]
    }
