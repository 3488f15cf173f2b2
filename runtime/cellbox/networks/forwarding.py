"""Letting the kernel forward packets for containers, and others not stand in the way.

A host that did not forward becomes a router when it does so for containers. As Docker, we then keep
it from being one for its other interfaces: which they were is noted in the run directory, and the
firewall drops what would go from one to another of them.

The rules of others have their say as well: a packet goes on only if no table drops it. Where
iptables drops what is forwarded (dockerd makes that its policy), rules that accept our bridges'
packets are put into ``DOCKER-USER``, which Docker leaves to users, or into ``FORWARD``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from cellbox.networks.links import Routing, write_sysctl
from cellbox.networks.nft import Nft

_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
_SYSCTL = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
_TOOLS = {4: ("iptables", "ip"), 6: ("ip6tables", "ip6")}


def forwards(version: int) -> bool:
    """Does the kernel forward packets of IPv4 or IPv6 in the namespace of now?"""
    with suppress(OSError):
        return Path("/proc/sys", _SYSCTL[version]).read_text().strip() != "0"
    return False


def closed(run_directory: str, version: int, ours: Collection[str]) -> tuple[str, ...]:
    """The interfaces between which nothing is to be forwarded: those that were there when
    forwarding was, or is now to be, switched on for containers; without our bridges."""
    note = Path(run_directory, f"forwarding{version}.json")
    with suppress(FileNotFoundError):
        return tuple(json.loads(note.read_text()))
    if forwards(version):
        return ()
    with Routing() as routing:
        without = {"lo", *ours}
        names = [
            one.name for one in routing.links() if one.kind != "veth" and one.name not in without
        ]
    staging = note.with_suffix(f".{os.getpid()}")
    staging.write_text(json.dumps(names))
    staging.rename(note)
    return tuple(names)


def enable(version: int) -> None:
    """Switch forwarding on, if it is off. Raises OSError.

    Interfaces that hear of routers by IPv6 go on to do so, which by default ends with forwarding
    (Linux: Documentation/networking/ip-sysctl, ``accept_ra``).
    """
    if forwards(version):
        return
    if version == 6:
        for setting in Path("/proc/sys/net/ipv6/conf").glob("*/accept_ra"):
            if setting.parent.name != "default" and setting.read_text().strip() == "1":
                setting.write_text("2")
    write_sysctl(_SYSCTL[version], "1")


# The rules of others ----------------------------------------------------------------------------


def pass_through(nft: Nft, table: str, bridges: Collection[str]) -> None:
    """Where iptables drops what is forwarded, have it accept what these bridges send and get, and
    take out what was put in for others, under the name ``table``; as far as that can be done from
    here."""
    for tool, family in _TOOLS.values():
        path = shutil.which(tool, path=_PATH)
        if path and _drops(nft, family, path):
            _accept(path, table, bridges)


def _drops(nft: Nft, family: str, path: str) -> bool:
    """By nftables where iptables is a front end of that, which is cheap; else by asking it, but
    only if its old tables are in use: to ask would make them."""
    answer = nft.ask(f"list chain {family} filter FORWARD\n")
    if answer:
        chains = (one.get("chain", {}) for one in json.loads(answer)["nftables"])
        return any(one.get("policy") == "drop" for one in chains)
    with suppress(OSError):
        if "filter" in Path(f"/proc/net/{family}_tables_names").read_text().split():
            return "-P FORWARD DROP" in _call(path, "-S", "FORWARD")
    return False


def _accept(path: str, comment: str, bridges: Collection[str]) -> None:
    forward = _call(path, "-S", "FORWARD")
    chain = "DOCKER-USER" if "-j DOCKER-USER" in forward else "FORWARD"
    present = set(_present(_call(path, "-S", chain), comment))
    wanted = {(flag, name) for name in bridges for flag in ("-i", "-o")}
    for action, rules in (("-I", wanted - present), ("-D", present - wanted)):
        for flag, name in sorted(rules):
            words = (action, chain, flag, name, "-m", "comment", "--comment", comment)
            _call(path, *words, "-j", "ACCEPT")


def _present(listing: str, comment: str) -> Iterator[tuple[str, str]]:
    for line in listing.splitlines():
        words = line.split()
        if "--comment" in words and words[words.index("--comment") + 1].strip('"') == comment:
            yield words[2], words[3]


def _call(path: str, *words: str) -> str:
    done = subprocess.run([path, "-w", *words], capture_output=True, text=True, env={})
    return done.stdout
