"""The authorization protocol: what is sent, and what stops a request."""

from __future__ import annotations

import base64

import pytest

from cellbox.drivers.authorization import Asked, Gate
from cellbox.errors import EngineError, NotFound, PermissionDenied

ASKED = Asked("POST", "/v1.45/x?a=b", {"x-registry-auth": "secret", "accept": "*/*"}, b'{"A":1}')


@pytest.fixture
def gate(served):
    """``gate(ANSWERS, ...)``: a gate of programs that answer so, named 0, 1, ...; ``gate.calls``
    are those of all."""

    def make(*answers):
        clients = {}
        for number, answer in enumerate(answers):
            both = {"AuthZPlugin.AuthZReq": answer, "AuthZPlugin.AuthZRes": answer}
            clients[str(number)] = served(both, str(number))

        def find(name, interface):
            assert interface == "authz"
            if name not in clients:
                raise NotFound("plugin", name)
            return clients[name]

        made = Gate([*clients], find)
        made.calls = {name: client.calls for name, client in clients.items()}
        return made

    return make


def test_what_is_told_of_a_request(gate):
    one = gate({"Allow": True})
    one.admit(ASKED)
    assert one.calls["0"] == [
        (
            "AuthZPlugin.AuthZReq",
            {
                "RequestMethod": "POST",
                "RequestUri": "/v1.45/x?a=b",
                "RequestHeaders": {"Accept": "*/*"},
                "RequestBody": base64.b64encode(b'{"A":1}').decode(),
            },
        )
    ]


def test_what_is_told_of_an_answer(gate):
    one = gate({"Allow": True})
    one.release(ASKED, 201, {"Content-Type": "x"}, b"yes")
    ((method, body),) = one.calls["0"]
    assert (method, body["ResponseStatusCode"]) == ("AuthZPlugin.AuthZRes", 201)
    assert base64.b64decode(body["ResponseBody"]) == b"yes"
    assert body["RequestMethod"] == "POST"


def test_the_first_that_denies_has_the_word(gate):
    some = gate({"Allow": True}, {"Allow": False, "Msg": "not\n you"}, {"Allow": True})
    with pytest.raises(PermissionDenied, match="^authorization denied by plugin 1: not you$"):
        some.admit(ASKED)
    assert [len(calls) for calls in some.calls.values()] == [1, 1, 0]


@pytest.mark.parametrize("answer", [{}, {"Allow": "yes"}, {"Allow": 1}])
def test_only_a_plain_yes_is_one(gate, answer):
    with pytest.raises(PermissionDenied):
        gate(answer).admit(ASKED)


@pytest.mark.parametrize(
    "answer", [{"Allow": True, "Err": "broken"}, (500, b""), b"noise", (404, b"")]
)
def test_who_cannot_answer_allows_nothing(gate, answer):
    with pytest.raises(EngineError, match="^plugin 0 failed with error: "):
        gate(answer).admit(ASKED)


def test_all_must_be_there(gate):
    one = gate({"Allow": True})
    one.check()
    missing = Gate(["nobody"], one._find)
    with pytest.raises(NotFound):
        missing.check()
    with pytest.raises(EngineError, match="plugin nobody failed"):
        missing.admit(ASKED)
