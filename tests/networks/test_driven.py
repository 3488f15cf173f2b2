"""Networks that another driver has: what it hears, and what is made of what it says.

The driver is a package's (``Cables``), which notes what it hears, or a program on a socket; the
interfaces are in namespaces of the test's own.
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
import threading
from dataclasses import replace

import pytest
from tests.drivers.programs import cables, program

from cellbox.drivers.places import Place
from cellbox.errors import EngineError, NotFound, NotSupported, Unavailable
from cellbox.model.network import Endpoint
from cellbox.networks import driven, links, owed
from cellbox.networks.driven import Driver
from cellbox.networks.links import Routing
from cellbox.networks.plug import identity
from cellbox.networks.wiring import Plug
from cellbox.plugins import Joined, Registered, Registry

NETWORK = "a" * 64
ONE = Endpoint("e" * 64, "far", NETWORK, "c" * 64, "web", ip="10.1.0.2/24")
TWO = replace(ONE, id="f" * 64, container="d" * 64, ip="10.1.0.3/24")
PLUG = Plug("", "", mac="02:42:0a:01:00:02", ip=ONE.ip, gateway="10.1.0.1", endpoint=ONE)


class Cables:
    """A network driver of a package. ``answers`` are what it says to the next who join, or raises;
    after these, ``usual``."""

    calls: list[tuple[str, str]]
    answers: list[Joined | Exception]
    ends: list[Exception]
    usual = Joined()

    def create(self, network, spec):
        raise AssertionError("nobody here makes a network")

    remove = create

    def join(self, endpoint):
        self.calls.append(("join", endpoint.id[0]))
        answer = self.answers.pop(0) if self.answers else self.usual
        if isinstance(answer, Exception):
            raise answer
        return answer

    def leave(self, endpoint):
        self.calls.append(("leave", endpoint.id[0]))
        if self.ends:
            raise self.ends.pop(0)


@pytest.fixture
def driver(monkeypatch):
    """A kind of Cables that a package has as ``cables``; who has a network of it."""
    kind = type("Fresh", (Cables,), {"calls": [], "answers": [], "ends": []})
    monkeypatch.setattr(driven, "REGISTRY", Registry({}, _installed))
    monkeypatch.setattr(f"{__name__}.FRESH", kind)
    return kind


FRESH: type[Cables] | None = None


def made():
    """What the package's entry point names."""
    return FRESH()


def _installed():
    return [Registered("network.cables", f"{__name__}:made", "cables-for-all")]


@pytest.fixture
def run(driver, tmp_path):
    """A run directory in which ``driver`` has the network."""
    driven.note(str(tmp_path), NETWORK, Driver("cables"))
    return str(tmp_path)


def notes(run):
    """The endpoints that the driver believes in, and all that is beside the notes."""
    folder = owed.note(run, NETWORK, "x").parent
    return sorted(one[0] for one in os.listdir(folder))


# Who has which network ----------------------------------------------------------------------------


def test_it_is_known_who_has_a_network_until_that_is_forgotten(run, driver):
    driven.join(run, ONE)
    driven.forget(run, NETWORK)
    assert not owed.is_driven(run, NETWORK)
    assert owed.among(run, [ONE]) == []
    assert os.listdir(f"{run}/networks/{NETWORK}") == []
    driven.forget(run, NETWORK)
    driven.forget(run, "b" * 64)
    with pytest.raises(EngineError, match=f"nobody knows who has the network {NETWORK[:12]}"):
        driven.join(run, ONE)
    assert driver.calls == [("join", "e")]


def test_a_package_that_is_not_there_any_more(run):
    driven.note(run, NETWORK, Driver("gone"))
    with pytest.raises(NotFound, match=r"network\.gone"):
        driven.join(run, ONE)
    assert notes(run) == []


def test_many_may_note_it_at_once(tmp_path):
    run, failures = str(tmp_path), []
    start = threading.Barrier(8)

    def write():
        start.wait()
        try:
            for _ in range(50):
                driven.note(run, NETWORK, Driver("cables"))
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failures == []
    assert os.listdir(tmp_path / "networks" / NETWORK) == [owed.DRIVER]


# Being told ---------------------------------------------------------------------------------------


def test_who_joins_twice_is_told_once(run, driver):
    driver.usual = Joined("tap0", ip6="fd00::2/64", routes={"10.9.0.0/16": ""})
    assert driven.join(run, ONE) == driven.join(run, ONE) == driver.usual
    assert driven.join(run, TWO) == driver.usual
    assert driver.calls == [("join", "e"), ("join", "f")]
    assert owed.among(run, [ONE, TWO]) == [ONE, TWO]


def test_an_end_is_told_once(run, driver):
    driven.join(run, ONE)
    driven.leave(run, ONE)
    driven.leave(run, ONE)
    driven.leave(run, TWO)
    assert driver.calls == [("join", "e"), ("leave", "e")]
    assert notes(run) == []
    driven.join(run, ONE)
    assert driver.calls[2:] == [("join", "e")]


def test_a_driver_that_fails_to_leave_is_not_told_again(run, driver):
    driven.join(run, ONE)
    driver.ends = [EngineError("stuck")]
    with pytest.raises(EngineError, match="stuck"):
        driven.leave(run, ONE)
    driven.leave(run, ONE)
    assert driver.calls == [("join", "e"), ("leave", "e")]


def test_one_that_fails_has_not_heard_of_an_earlier_end(run, driver):
    driver.answers = [EngineError("it exists"), Joined("tap0")]
    assert driven.join(run, ONE) == Joined("tap0")
    assert driver.calls == [("join", "e"), ("leave", "e"), ("join", "e")]
    assert notes(run) == ["e"]


def test_one_that_fails_again_is_told_that_it_is_over(run, driver):
    driver.answers = [EngineError("first"), EngineError("second")]
    driver.ends = [EngineError("nor that"), OSError("nor that")]
    with pytest.raises(EngineError, match="second"):
        driven.join(run, ONE)
    assert driver.calls == [("join", "e"), ("leave", "e")] * 2
    assert notes(run) == []


@pytest.mark.parametrize("error", [Unavailable("slow"), NotSupported("no such"), OSError("broken")])
def test_other_failures_are_not_tried_again(run, driver, error):
    driver.answers = [error]
    with pytest.raises(type(error)):
        driven.join(run, ONE)
    assert driver.calls == [("join", "e"), ("leave", "e")]
    assert notes(run) == []


def test_one_who_was_killed_while_it_was_told_joins_anew(run, driver):
    """The note is there before the driver hears of it."""
    note = owed.note(run, NETWORK, ONE.id)
    seen = []
    driver.join = lambda self, endpoint: seen.append(note.read_text()) or Joined()
    driven.join(run, ONE)
    note.write_text(seen[0])
    driven.join(run, ONE)
    assert driver.calls == [("leave", "e")]
    assert len(seen) == 2


def test_a_torn_note_is_none(run, driver):
    driven.join(run, ONE)
    note = owed.note(run, NETWORK, ONE.id)
    note.write_text(note.read_text()[:-3])
    driven.join(run, ONE)
    assert driver.calls == [("join", "e")] * 2


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Joined("a name of more than 15"), "no interface is called 'a name of more"),
        (Joined("a/b"), "no interface is called 'a/b'"),
        (Joined(mac="02:42"), "'02:42' is no hardware address"),
        (Joined(mac="02-42-0a-01-00-02"), "is no hardware address"),
        (Joined(ip="10.1.0.2"), "'10.1.0.2' has no prefix length"),
        (Joined(ip="10.1.0/24"), "4 octets"),
        (Joined(ip="fd00::2/64"), "fd00::2"),
        (Joined(ip6="10.1.0.2/24"), "10.1.0.2"),
        (Joined(ip6="fd00::2/129"), "129"),
        (Joined(gateway="10.1.0.1/24"), "'/' in '10.1.0.1/24'"),
        (Joined(gateway="fd00::1"), "fd00::1"),
        (Joined(gateway6="10.1.0.1"), "10.1.0.1"),
        (Joined(gateway6="router"), "router"),
        (Joined(routes={"": "10.1.0.1"}), "does not appear to be"),
        (Joined(routes={"10.9.0.0": ""}), "'10.9.0.0' has no prefix length"),
        (Joined(routes={"10.9.0.1/16": ""}), "has host bits set"),
        (Joined(routes={"10.9.0.0/16": "router"}), "router"),
        (Joined(routes={"10.9.0.0/16": "fd00::1"}), "fd00::1"),
        (Joined(routes={"fd09::/64": "10.1.0.1"}), "10.1.0.1"),
    ],
)
def test_nonsense_is_refused(run, driver, said, words):
    driver.answers = [said]
    with pytest.raises(EngineError) as caught:
        driven.join(run, ONE)
    told = str(caught.value)
    assert told.startswith("the driver of network far tells nonsense: ") and words in told
    assert driver.calls == [("join", "e"), ("leave", "e")]
    assert notes(run) == []


def test_what_makes_sense_is_taken_as_it_is(run, driver):
    routes = {"0.0.0.0/0": "10.1.0.1", "10.9.0.0/16": "", "::/0": "fd00::1"}
    driver.usual = Joined(
        "fifteen.letters",
        ip="10.1.0.2/24",
        ip6="fd00::2/64",
        mac="02:42:0A:01:00:02",
        gateway="10.1.0.1",
        gateway6="fe80::1",
        routes=routes,
    )
    assert driven.join(run, ONE) == driver.usual


# Plugging -----------------------------------------------------------------------------------------


def veth(name, peer="other"):
    """A pair of interfaces here; the hardware address of the first."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    with Routing() as routing:
        routing.do(links.new_veth(peer, name, home))
        os.close(home)
        return routing.find(name).mac


def here(name):
    """The interface of this namespace."""
    with Routing() as routing:
        return routing.find(name)


def there(space, name="eth0"):
    """An interface of the container, its addresses without those of the link itself, and routes."""
    with space.entered(), Routing() as routing:
        found = routing.find(name)
        addresses = routing.addresses(found.index) if found else []
        return found, [a for a in addresses if a[:4] != "fe80"], routing.routes()


def routes(space, *words):
    """What ``ip route`` says in there."""
    with space.entered():
        asked = ["ip", *words, "route", "show"]
        done = subprocess.run(asked, check=True, capture_output=True, text=True)
        return [line.strip() for line in done.stdout.splitlines()]


@pytest.mark.root
def test_an_interface_becomes_the_container_s(run, driver, apart, space):
    driver.usual = Joined(
        "tap0", gateway="10.1.0.254", routes={"10.8.0.0/16": "10.7.0.9", "10.7.0.0/16": ""}
    )

    def action():
        veth("tap0")
        inside = space()
        driven.plug(run, inside.fd, replace(PLUG, mtu=1400))
        found, addresses, _ = there(inside)
        return found, addresses, routes(inside), here("tap0"), here("eth0"), there(inside, "lo")[0]

    found, addresses, lines, left, wrong, loopback = apart(action)
    assert (found.mac, found.mtu, found.up, loopback.up) == (PLUG.mac, 1400, True, True)
    assert addresses == ["10.1.0.2/24"]
    assert (left, wrong) == (None, None)
    wanted = (
        "default via 10.1.0.254 dev eth0",
        "10.7.0.0/16 dev eth0",
        "10.8.0.0/16 via 10.7.0.9 dev eth0",
    )
    assert all(any(line.startswith(one) for line in lines) for one in wanted), lines


@pytest.mark.root
def test_what_the_driver_has_chosen_itself(run, driver, apart, space):
    driver.usual = Joined(
        "tap0",
        ip="10.5.0.2/24",
        ip6="fd00:5::2/64",
        mac="02:42:0a:05:00:02",
        gateway="10.5.0.1",
        gateway6="fd00:5::1",
    )

    def action():
        veth("tap0")
        inside = space()
        driven.plug(run, inside.fd, replace(PLUG, ip="", mac=""))
        return *there(inside)[:2], routes(inside), routes(inside, "-6")

    found, addresses, v4, v6 = apart(action)
    assert found.mac == "02:42:0a:05:00:02"
    assert addresses == ["10.5.0.2/24", "fd00:5::2/64"]
    assert any(line.startswith("default via 10.5.0.1 dev eth0") for line in v4)
    assert any(line.startswith("default via fd00:5::1 dev eth0") for line in v6)


@pytest.mark.root
def test_a_gateway_may_be_behind_a_route_onto_the_link(run, driver, apart, space):
    driver.usual = Joined("tap0", gateway="169.254.1.1", routes={"169.254.1.1/32": ""})

    def action():
        veth("tap0")
        inside = space()
        driven.plug(run, inside.fd, replace(PLUG, ip="10.1.0.2/32"))
        return routes(inside)

    assert any(line.startswith("default via 169.254.1.1 dev eth0") for line in apart(action))


@pytest.mark.root
def test_one_that_is_not_the_way_out_has_no_default_route(run, driver, apart, space):
    driver.usual = Joined("tap0", gateway="10.1.0.1")

    def action():
        mac = veth("tap0")
        inside = space()
        wanted = replace(PLUG, interface="eth1", mac="", default_route=False)
        driven.plug(run, inside.fd, wanted)
        with inside.entered(), open("/proc/sys/net/ipv6/conf/eth1/disable_ipv6") as file:
            without_v6 = file.read().strip()
        return mac, *there(inside, "eth1"), routes(inside), without_v6

    mac, found, addresses, _, lines, without_v6 = apart(action)
    assert (found.mac, addresses, without_v6) == (mac, ["10.1.0.2/24"], "1")
    assert not any(line.startswith("default") for line in lines)


@pytest.mark.root
def test_what_else_has_the_name_in_there_makes_room(run, driver, apart, space):
    driver.usual = Joined("tap0")

    def action():
        mac = veth("tap0")
        inside = space()
        with inside.entered():
            veth("eth0")
        driven.plug(run, inside.fd, replace(PLUG, mac=""))
        return mac, there(inside)[0].mac, there(inside, "other")[0]

    mac, found, other = apart(action)
    assert found == mac and other is None


@pytest.mark.root
def test_a_driver_that_needs_no_interface(run, driver, apart, space):
    def action():
        inside = space()
        driven.plug(run, inside.fd, PLUG)
        driven.plug(run, inside.fd, PLUG)
        before = there(inside)[0]
        driven.unplug(run, inside.fd, PLUG)
        return before, driver.calls, notes(run)

    assert apart(action) == (None, [("join", "e"), ("leave", "e")], [])


@pytest.mark.root
def test_one_that_has_joined_is_plugged_and_its_end_told(run, driver, apart, space):
    driver.usual = Joined("tap0")

    def action():
        mac, own = veth("tap0"), veth("eth0", "uplink")
        inside = space()
        driven.join(run, ONE)
        driven.plug(run, inside.fd, PLUG)
        driven.plug(run, inside.fd, PLUG)
        plugged = there(inside)[0].mac, list(driver.calls)
        driven.unplug(run, inside.fd, PLUG)
        driven.unplug(run, inside.fd, PLUG)
        untouched = here("eth0").mac == own
        back, inner = here("tap0"), there(inside)[0]
        return mac, plugged, back, inner, untouched, driver.calls, notes(run)

    mac, plugged, back, inner, untouched, calls, left = apart(action)
    assert plugged == (PLUG.mac, [("join", "e")])
    assert (back.name, back.kind, inner) == ("tap0", "veth", None)
    assert mac != PLUG.mac and untouched
    assert calls == [("join", "e"), ("leave", "e")]
    assert left == []


@pytest.mark.root
def test_another_run_joins_anew(run, driver, apart, space):
    driver.usual = Joined("tap0")

    def action():
        first, second = space(), space()
        veth("tap0")
        driven.plug(run, first.fd, PLUG)
        with first.entered():  # which is gone with its interfaces
            with Routing() as routing:
                routing.do(links.remove_link("eth0"))
        veth("tap0", "another")
        driven.plug(run, second.fd, PLUG)
        told = list(driver.calls)
        driven.leave(run, ONE, identity(first.fd))  # too late
        driven.unplug(run, first.fd, PLUG)
        late = list(driver.calls), there(second)[0] is not None
        driven.leave(run, ONE, identity(second.fd))
        return told, late, driver.calls, notes(run)

    told, late, calls, left = apart(action)
    assert told == [("join", "e"), ("leave", "e"), ("join", "e")]
    assert late == (told, True)
    assert calls == [*told, ("leave", "e")]
    assert left == []


@pytest.mark.root
def test_a_container_that_is_started_again_joins_anew(run, driver):
    """Even if nobody has told the driver of the end of its last run."""
    with open("/proc/self/ns/net") as namespace:
        driven.plug(run, namespace.fileno(), PLUG)
    driver.usual = Joined(ip="10.1.0.9/24")
    assert driven.join(run, ONE) == driven.join(run, ONE) == driver.usual
    assert driver.calls == [("join", "e"), ("leave", "e"), ("join", "e")]


def test_the_end_of_a_run_does_not_concern_one_that_is_about_to_begin(run, driver):
    driven.join(run, ONE)
    driven.leave(run, ONE, 4711)
    assert driver.calls == [("join", "e")]
    assert notes(run) == ["e"]
    driven.leave(run, ONE, 0)
    assert driver.calls == [("join", "e"), ("leave", "e")]


@pytest.mark.root
def test_one_that_never_began_does_not_end_another(run, driver):
    with open("/proc/self/ns/net") as namespace:
        driven.plug(run, namespace.fileno(), PLUG)
    driven.leave(run, ONE, 0)
    assert driver.calls == [("join", "e")]


@pytest.mark.root
def test_an_interface_that_is_not_there(run, driver, apart, space):
    driver.usual = Joined("tap0")

    def action():
        with pytest.raises(EngineError) as caught:
            driven.plug(run, space().fd, PLUG)
        return str(caught.value), driver.calls, notes(run)

    told, calls, left = apart(action)
    assert told == "the driver of network far has no interface tap0 that it speaks of"
    assert calls == [("join", "e"), ("leave", "e")]
    assert left == []


@pytest.mark.root
def test_an_interface_that_cannot_be_had(run, driver, apart, space):
    driver.usual = Joined("lo")

    def action():
        with pytest.raises(OSError) as caught:
            driven.plug(run, space().fd, PLUG)
        return caught.value.filename, driver.calls, notes(run)

    call, calls, left = apart(action)
    assert call == "move link 1 as eth0"
    assert calls == [("join", "e"), ("leave", "e")]
    assert left == []


@pytest.mark.root
def test_an_end_is_told_even_if_the_interface_cannot_be_given_back(run, driver, apart, space):
    driver.usual = Joined("tap0")

    def action():
        veth("tap0")
        inside = space()
        driven.plug(run, inside.fd, PLUG)
        veth("tap0", "another")  # the name is taken
        driven.unplug(run, inside.fd, PLUG)
        return driver.calls, notes(run)

    assert apart(action) == ([("join", "e"), ("leave", "e")], [])


# At once, and for real ----------------------------------------------------------------------------


def test_one_at_a_time_speaks_with_the_driver(run, driver, until):
    heard, failures = [], []

    def join(self, endpoint):
        heard.append(("begin", endpoint.id))
        if len(heard) == 1:
            until(lambda: waiting(run) == 2)
        heard.append(("end", endpoint.id))
        return Joined()

    def attempt(endpoint):
        try:
            driven.join(run, endpoint)
        except BaseException as error:
            failures.append(error)

    driver.join = join
    threads = [threading.Thread(target=attempt, args=(one,)) for one in (ONE, TWO, ONE)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failures == []
    assert [what for what, _ in heard] == ["begin", "end"] * 2
    assert {id for _, id in heard} == {ONE.id, TWO.id}
    assert notes(run) == ["e", "f"]


def waiting(run):
    """How many wait for their turn to speak with the driver (proc(5), ``/proc/locks``)."""
    inode = os.stat(owed.note(run, NETWORK, ONE.id).parent).st_ino
    with open("/proc/locks") as file:
        return sum("-> FLOCK" in line and f":{inode} " in line for line in file)


@pytest.mark.root
def test_two_containers_of_a_program_reach_each_other(apart, space, tmp_path):
    run = str(tmp_path / "run")
    place = Place("wires", f"unix://{tmp_path}/wires.sock", "")

    def command(*words):
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def action():
        first, second = space(), space()
        driven.note(run, NETWORK, Driver("wires", place))
        with program(tmp_path / "wires.sock", cables(command)) as calls:
            pools = {"NetworkID": NETWORK, "IPv4Data": [], "IPv6Data": []}
            cables(command)["NetworkDriver.CreateNetwork"](pools)
            plugs = [PLUG, replace(PLUG, mac="", ip=TWO.ip, endpoint=TWO)]
            for one, inside in zip(plugs, (first, second), strict=True):
                driven.plug(run, inside.fd, one)
            between = _connected(first, second)
            for one, inside in zip(plugs, (first, second), strict=True):
                driven.unplug(run, inside.fd, one)
            said = [method.removeprefix("NetworkDriver.") for method, _ in calls]
        with Routing() as routing:
            left = [one.name for one in routing.links() if one.kind == "veth"]
        return between, said, left

    between, said, left = apart(action)
    assert between
    assert said == ["CreateEndpoint", "Join"] * 2 + ["Leave", "DeleteEndpoint"] * 2
    assert left == []


def _connected(first, second):
    """Does a connection from the second container to the first come about?"""
    address = str(ipaddress.ip_interface(ONE.ip).ip)
    with first.listen(address, 80):
        return second.reaches(address, 80)
