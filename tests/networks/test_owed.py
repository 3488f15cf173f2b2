"""Who is still to hear of a container's end."""

from __future__ import annotations

from cellbox.model.codec import dumps
from cellbox.model.network import Endpoint
from cellbox.networks import driven, owed
from cellbox.networks.driven import Driver, Note


def endpoint(id, network):
    return Endpoint(id, network, network, "c" * 64, "web")


def test_a_network_is_driven_while_it_is_noted_who_has_it(tmp_path):
    run = str(tmp_path)
    assert not owed.is_driven(run, "n1")
    driven.note(run, "n1", Driver("far"))
    assert owed.is_driven(run, "n1")
    assert not owed.is_driven(run, "n2")
    driven.forget(run, "n1")
    assert not owed.is_driven(run, "n1")


def test_those_of_whose_end_nobody_has_heard(tmp_path):
    run = str(tmp_path)
    one, other = endpoint("e1", "n1"), endpoint("e2", "n1")
    assert owed.among(run, [one, other]) == []
    note = owed.note(run, "n1", "e2")
    note.parent.mkdir(parents=True)
    note.touch()
    assert owed.among(run, [one, other, endpoint("e2", "n2")]) == [other]
    assert owed.among(run, []) == []
    note.unlink()
    assert owed.among(run, [one, other]) == []


def test_which_namespace_has_it(tmp_path):
    run, one = str(tmp_path), endpoint("e1", "n1")
    assert owed.used(run, one) == 0
    note = owed.note(run, "n1", "e1")
    note.parent.mkdir(parents=True)
    for told, used in ((Note(one), 0), (Note(one, used=4711), 4711)):
        note.write_text(dumps(told))
        assert owed.used(run, one) == used
    note.write_text(note.read_text()[:-3])
    assert owed.used(run, one) == 0
