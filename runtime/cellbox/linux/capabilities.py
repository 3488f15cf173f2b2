"""Capabilities: root's power in 41 pieces, and which of them a container gets.

A process holds several sets of them (capabilities(7)). The *bounding* set is the ceiling: what is
dropped there can never come back, not even through a set-uid program. *Permitted* is what a
process may use, *effective* what it uses now. *Inheritable* and *ambient* would pass power on to
programs of an ordinary user; a container's are always empty (CVE-2022-24769).

Root in a container holds :data:`DEFAULT`, of the container's user namespace only. Another user
holds nothing after exec(2), but keeps the bounding set, so that set-uid programs of the image
still work. Names are written without ``CAP_`` here; a user may write them with it and in any case.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence

from cellbox.errors import InvalidArgument
from cellbox.linux import syscalls

# The order is that of the numbers in linux/capability.h.
ALL: tuple[str, ...] = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"),
    *("SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW"),
    *("IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT"),
    *("SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD"),
    *("LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG"),
    *("WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"),
)
"""Every capability; its place is its number."""

NUMBERS = {name: number for number, name in enumerate(ALL)}

DEFAULT: tuple[str, ...] = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("NET_BIND_SERVICE", "NET_RAW", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP"),
)
"""What a container's root holds unless asked otherwise: Docker's fourteen."""

_PR_CAPBSET_READ = 23
_LAST_POSSIBLE = 63


def canonical(name: str) -> str:
    """``cap_net_raw`` or ``NET_RAW`` as ``NET_RAW``; ``ALL`` as it is.

    Raises InvalidArgument for a name that Linux does not have.
    """
    short = name.upper().removeprefix("CAP_")
    if short not in NUMBERS and name.upper() != "ALL":
        raise InvalidArgument(f'unknown capability: "{name}"')
    return short


def effective(
    add: Sequence[str] = (), drop: Sequence[str] = (), privileged: bool = False
) -> tuple[str, ...]:
    """The capabilities of a container's root, in the order of their numbers.

    Docker's rules: ``privileged`` is all of them whatever else is asked; ``ALL`` added is all but
    those dropped; ``ALL`` dropped leaves those added; else those dropped go first and those added
    come after, so that a name in both is held. Raises InvalidArgument for an unknown name.
    """
    added = {canonical(name) for name in add}
    dropped = {canonical(name) for name in drop}
    if privileged:
        return ALL
    if "ALL" in added:
        held = set(ALL) - dropped
    elif "ALL" in dropped:
        held = added
    else:
        held = (set(DEFAULT) - dropped) | added
    return tuple(name for name in ALL if name in held)


def mask(names: Iterable[str]) -> int:
    """The 64-bit set of ``names``, as capset(2) takes and /proc/PID/status shows it."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBERS[canonical(name)]
    return bits


def names(bits: int) -> tuple[str, ...]:
    """The capabilities of a 64-bit set; bits that have no name yet are left out."""
    return tuple(name for number, name in enumerate(ALL) if bits >> number & 1)


def bound(bits: int) -> None:
    """Drop all but ``bits`` from this thread's bounding set, and empty its ambient set.

    Needs CAP_SETPCAP, so it comes before ids and other sets change. What is not in the bounding set
    already is no error; nothing is ever added. Source: prctl(2), PR_CAPBSET_DROP.
    """
    for number in range(_LAST_POSSIBLE + 1):
        if bits >> number & 1:
            continue
        held = _bounding(number)
        if held is None:  # past the last one that this kernel knows
            break
        if held:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)


def _bounding(number: int) -> bool | None:
    try:
        return bool(syscalls.prctl(_PR_CAPBSET_READ, number))
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise
