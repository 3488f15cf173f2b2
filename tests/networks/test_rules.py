from __future__ import annotations

import pytest

from cellbox.model.container import PortSpec
from cellbox.model.network import Endpoint
from cellbox.networks import rules
from cellbox.networks.rules import Bridge, Egress, Published, Rules, Ruleset
from cellbox.networks.wiring import Plug, Wiring

PLUG = Plug("cba", "cbv1", ip="10.1.0.2/24", ip6="fd00::2/64")
WIRED = Wiring(plugs=(PLUG,))
ID = "c" * 64


@pytest.mark.parametrize(
    ("port", "published"),
    [
        (PortSpec(80, host_port=8080), [Published(8080, "10.1.0.2", 80)]),
        (PortSpec(53, "udp", "0.0.0.0", 53), [Published(53, "10.1.0.2", 53, "udp", "0.0.0.0")]),
        (PortSpec(80, host_ip="::", host_port=81), [Published(81, "fd00::2", 80, host_ip="::")]),
        (PortSpec(80, host_ip="127.0.0.1", host_port=81), []),
        (PortSpec(80, host_ip="::1", host_port=81), []),
    ],
)
def test_ports_that_others_can_reach_are_published(port, published):
    found = rules.of(WIRED, ID, (port,))
    assert (list(found.published) if found else []) == published


def test_a_container_with_a_list_is_held_to_it():
    wired = Wiring(plugs=(PLUG,), egress=("10.0.0.0/8",))
    egress = Egress("c" * 12, ("cbv1",), ("10.1.0.2", "fd00::2"), ("10.0.0.0/8",))
    assert rules.of(wired, ID, ()) == Rules(egress=egress)


def test_most_containers_have_none():
    assert rules.of(WIRED, ID, ()) is None
    assert rules.of(Wiring(), ID, (PortSpec(80, host_port=80),)) is None


def test_a_cable_of_another_driver_has_no_rule():
    endpoint = Endpoint("e" * 64, "far", "n" * 64, ID, "web")
    driven = Plug("", "", ip="10.5.0.2/24", ip6="fd05::2/64", endpoint=endpoint)
    port = PortSpec(80, host_port=8080)
    assert rules.of(Wiring(plugs=(driven,)), ID, (port,)) is None
    # The port leads to the address that the container has in a network of ours.
    found = rules.of(Wiring(plugs=(driven, PLUG)), ID, (port,))
    assert found == Rules((Published(8080, "10.1.0.2", 80),))


def test_all_notes_of_a_store_are_its_rules(tmp_path):
    run = str(tmp_path)
    assert rules.gather(run) == Ruleset()
    one, other = Bridge("cba", ("10.1.0.0/24",)), Bridge("cbb", (), internal=True)
    rules.note_bridge(run, "n1", one)
    rules.note_bridge(run, "n2", other)
    port, egress = Published(80, "10.1.0.2", 80), Egress("c" * 12, (), ())
    rules.note(run, ID, Rules((port,)))
    rules.note(run, "d" * 64, Rules(egress=egress))
    assert rules.gather(run) == Ruleset((one, other), (port,), (egress,))
    assert rules.bridges(run) == {"n1": one, "n2": other}
    assert (rules.bridge(run, "n1"), rules.bridge(run, "n3")) == (one, None)
    assert rules.forget(run, ID)
    assert not rules.forget(run, ID)
    rules.forget_bridge(run, "n1")
    rules.forget_bridge(run, "n1")
    assert rules.gather(run) == Ruleset((other,), (), (egress,))


def test_a_torn_note_is_none(tmp_path):
    run = str(tmp_path)
    rules.note(run, ID, Rules((Published(80, "10.1.0.2", 80),)))
    note = tmp_path / "networks" / "rules" / f"{ID}.json"
    note.write_text(note.read_text()[:-5])
    assert rules.gather(run) == Ruleset()
