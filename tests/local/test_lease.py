"""Leases belong to living processes."""

import os
import signal

import pytest

from cellbox.local.lease import Hold, Owner


def give_to(state, owner):
    """Let all leases be another process's."""
    with state.write() as connection:
        connection.execute(
            "UPDATE leases SET pid = ?, start = ?, boot = ?", (owner.pid, owner.start, owner.boot)
        )


def test_what_is_held_is_held_until_the_end_of_the_block(state):
    with state.leases.take("pull ubuntu") as lease:
        lease.hold(Hold.LAYER, "one", "two")
        lease.hold(Hold.BLOB, "three")
        lease.hold(Hold.LAYER, "one")
        assert state.leases.held(Hold.LAYER) == {"one", "two"}
        assert state.leases.held(Hold.BLOB) == {"three"}
        assert state.leases.holder(Hold.LAYER, "two") == "pull ubuntu"
        assert state.leases.holder(Hold.LAYER, "three") == ""
    assert state.leases.held(Hold.LAYER) == frozenset()
    lease.release()


def test_a_lease_is_released_by_an_exception(state):
    with pytest.raises(KeyError), state.leases.take("pull") as lease:
        lease.hold(Hold.IMAGE, "one")
        raise KeyError
    assert state.leases.held(Hold.IMAGE) == frozenset()


@pytest.mark.parametrize("change", ["gone", "another start", "another boot"])
def test_a_lease_lapses_with_its_owner(state, dead, change):
    lease = state.leases.take("pull")
    lease.hold(Hold.IMAGE, "one")
    me = Owner.me()
    owners = {
        "gone": Owner(dead, 1, Owner.me().boot),
        "another start": Owner(me.pid, me.start - 1, me.boot),
        "another boot": Owner(me.pid, me.start, "yesterday"),
    }
    give_to(state, owners[change])

    assert state.leases.held(Hold.IMAGE) == frozenset()
    state.leases.drop_dead()
    with state.read() as connection:
        assert connection.execute("SELECT count(*) FROM lease_items").fetchone() == (0,)


def test_dropping_the_dead_keeps_the_living(state):
    lease = state.leases.take("pull")
    lease.hold(Hold.IMAGE, "one")
    state.leases.drop_dead()
    assert state.leases.held(Hold.IMAGE) == {"one"}
    lease.release()


def test_a_zombie_holds_nothing():
    pid = os.fork()
    if not pid:
        signal.pause()
    owner = Owner(pid, _start(pid), Owner.me().boot)
    assert owner.lives()

    os.kill(pid, 9)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert not owner.lives()
    os.waitpid(pid, 0)
    assert not owner.lives()


def test_a_process_is_known_by_its_start_whatever_its_name():
    me = Owner.me()
    assert (me.pid, me.lives()) == (os.getpid(), True)
    assert me.start == _start(os.getpid())


def _start(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[19])
