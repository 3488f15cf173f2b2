"""Ranges of user and group ids, and writing them into a new user namespace.

See user_namespaces(7) and subuid(5). As root the ids of containers come from a range that no
package uses; an ordinary user has those that /etc/subuid and /etc/subgid lend, written by the
set-uid helpers newuidmap(1) and newgidmap(1), or else the single id of the user.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
from collections.abc import Sequence

RANGE = 65536
"""Ids of one container: all that fit the 16 bits that images use."""

FIRST = 0x20000000
"""The host's first id for containers as root; slot N has FIRST + N * RANGE and on."""

SLOTS = 0x4000

_LOCKS = "slots"

Line = tuple[int, int, int]
"""(inside, outside, count), a line of uid_map."""


def slot_range(slot: int) -> Line:
    """The ids of container ``slot``, 0 to SLOTS - 1."""
    return (0, FIRST + slot * RANGE, RANGE)


def take_slot(directory: str) -> tuple[int, int]:
    """The lowest slot that no running container has, and a descriptor that holds it while it is
    open.

    Ids on disk are those of the image, whatever the slot, so a container need not have the same one
    twice; the locks are files in ``directory``/slots, and end with the process that holds them.
    """
    os.makedirs(f"{directory}/{_LOCKS}", exist_ok=True)
    for slot in range(SLOTS):
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(f"{directory}/{_LOCKS}/{slot}", flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return slot, fd
        except BlockingIOError:
            os.close(fd)
    raise OSError(errno.EAGAIN, "all ranges of ids are in use", directory)


def subordinate(uid: int, file: str = "/etc/subuid") -> list[tuple[int, int]]:
    """The (first, count) ranges that ``file`` lends to user ``uid``, in the order of the file."""
    names = {str(uid)}
    try:
        names.add(pwd.getpwuid(uid).pw_name)
    except KeyError:
        pass
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:
            text = lines.read()
    except OSError:
        return []
    fields = [line.strip().split(":") for line in text.splitlines()]
    return [
        (int(first), int(count))
        for owner, first, count in (row for row in fields if len(row) == 3)
        if owner in names and first.isdecimal() and count.isdecimal() and int(count)
    ]


def rootless_map(own: int, ranges: Sequence[tuple[int, int]]) -> list[Line]:
    """A map for the launcher's user namespace: the user is root, lent ids follow from 1 on."""
    lines, inside = [(0, own, 1)], 1
    for first, count in ranges:
        lines.append((inside, first, count))
        inside += count
    return lines


def helpers() -> tuple[str, str] | None:
    """The paths of newuidmap and newgidmap, None unless both are there."""
    import shutil  # which brings three ways of compressing along, for every shim to carry

    uid, gid = shutil.which("newuidmap"), shutil.which("newgidmap")
    return (uid, gid) if uid and gid else None


def write_maps(pid: int, uids: Sequence[Line], gids: Sequence[Line]) -> None:
    """Write both maps of ``pid``'s user namespace directly, as its creator's namespace may.

    A process without CAP_SETGID there may map its own group only after giving up setgroups(2).
    """
    proc = f"/proc/{pid}"
    for name, lines in (("uid_map", uids), ("gid_map", gids)):
        text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in lines)
        _write(f"{proc}/{name}", text)


def deny_setgroups(pid: int) -> None:
    """Give up setgroups(2) in ``pid``'s user namespace, which a single-id map needs."""
    _write(f"/proc/{pid}/setgroups", "deny")


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def own_map(kind: str = "uid") -> list[Line]:
    """This process's own ``uid_map`` or ``gid_map``."""
    with open(f"/proc/self/{kind}_map", encoding="utf-8") as file:
        rows = [[int(word) for word in line.split()] for line in file]
    return [(inside, outside, count) for inside, outside, count in rows]


def root_of(pid: int) -> int:
    """What the root of ``pid``'s user namespace is here; 0 where it has none."""
    with open(f"/proc/{pid}/uid_map", encoding="utf-8") as file:
        rows = [[int(word) for word in line.split()] for line in file]
    return next((outside for inside, outside, _ in rows if inside == 0), 0)


def nested_map(kind: str, wanted: Sequence[Line]) -> list[Line]:
    """The map of a container's user namespace, as its creator here can write it.

    ``wanted`` where all of its outside ids exist here; else, as in a user namespace of few ids,
    every id that there is, as itself.
    """
    own = own_map(kind)
    if all(_covers(own, first, count) for _, first, count in wanted):
        return list(wanted)
    return [(inside, inside, count) for inside, _, count in own]


def _covers(own: Sequence[Line], first: int, count: int) -> bool:
    return any(inside <= first and first + count <= inside + length for inside, _, length in own)
