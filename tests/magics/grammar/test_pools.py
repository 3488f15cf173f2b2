"""--subnet, --ip-range, --gateway and --aux-address."""

from __future__ import annotations

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.network import Subnet
from cellbox_magics.grammar.pools import subnets


def test_each_address_belongs_to_the_subnet_in_which_it_lies():
    found = subnets(
        ["10.0.0.0/16", "fd00::/64"],
        ["10.0.5.0/24"],
        ["fd00::1", "10.0.0.1"],
        {"printer": "10.0.0.7", "door": "10.0.0.8"},
    )
    reserved = {"printer": "10.0.0.7", "door": "10.0.0.8"}
    assert found == (
        Subnet("10.0.0.0/16", "10.0.0.1", "10.0.5.0/24", reserved),
        Subnet("fd00::/64", "fd00::1"),
    )
    assert subnets([], [], [], {}) == ()


@pytest.mark.parametrize(
    ("asked", "ranges", "gateways", "reserved", "sentence"),
    [
        ([], [], ["10.0.0.1"], {}, "every ip-range or gateway must have a corresponding subnet"),
        ([], ["10.0.0.0/24"], [], {}, "every ip-range or gateway"),
        (["10.0.0.0/24"], [], ["1.2.3.4"], {}, "no matching subnet for gateway 1.2.3.4"),
        (["10.0.0.0/24"], ["10.1.0.0/25"], [], {}, "no matching subnet for range 10.1.0.0/25"),
        (["10.0.0.0/24"], [], [], {"a": "::1"}, "no matching subnet for aux-address ::1"),
        (["10.0.0.0/24", "10.0.0.0/16"], [], [], {}, "multiple overlapping subnet"),
        (["10.0.0.0/24", "fd00::/64"], [], ["10.0.0.1", "10.0.0.2"], {}, "multiple gateways"),
        (["10.0.0.0/24", "fd00::/64"], ["10.0.0.0/25", "10.0.0.0/26"], [], {}, "multiple ranges"),
        (["x"], [], [], {}, "invalid subnet x"),
        (["10.0.0.0/24"], [], ["x"], {}, "invalid gateway x"),
    ],
)
def test_what_does_not_fit(asked, ranges, gateways, reserved, sentence):
    with pytest.raises(InvalidArgument) as caught:
        subnets(asked, ranges, gateways, reserved)
    assert str(caught.value).startswith(("cannot configure", sentence))
    assert sentence in str(caught.value)
