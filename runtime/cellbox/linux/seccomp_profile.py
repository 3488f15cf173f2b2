"""Seccomp profiles as data, in the shape of Docker's JSON; pure.

A profile gives an action for each system call: that of the first rule whose names hold it and
whose comparisons of arguments all hold, else the default action. A rule may apply only on some
machines, kernels, or for containers that hold some capabilities; :meth:`Profile.rules_for` leaves
those that do.

Format: https://docs.docker.com/engine/security/seccomp/ and moby ``profiles/seccomp``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cellbox.errors import InvalidArgument, NotSupported

ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
ACTIONS = frozenset(
    (ALLOW, ERRNO, "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS")
    + ("SCMP_ACT_TRAP", "SCMP_ACT_TRACE", "SCMP_ACT_LOG")
)
OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
EPERM = 1
MAX_JSON = 1 << 20
"""Bytes of a profile; Docker's own has 16 KiB."""


@dataclass(frozen=True)
class Comparison:
    """Argument ``index`` (0 to 5) compared with ``value``; for MASKED_EQ ``value`` is the mask and
    ``value_two`` what is left under it."""

    index: int
    value: int
    operator: str = "EQ"
    value_two: int = 0


@dataclass(frozen=True)
class Condition:
    """Where a rule applies: Go's names of machines, capabilities without ``CAP_``, the least kernel
    as (major, minor). Empty parts say nothing."""

    machines: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    kernel: tuple[int, int] | None = None

    def holds(self, machine: str, capabilities: Collection[str], kernel: tuple[int, int]) -> bool:
        """Do all parts hold? That is what a rule includes."""
        return (
            (not self.machines or machine in self.machines)
            and set(self.capabilities) <= set(capabilities)
            and (self.kernel is None or kernel >= self.kernel)
        )

    def meets(self, machine: str, capabilities: Collection[str], kernel: tuple[int, int]) -> bool:
        """Does any part hold? That is what a rule excludes."""
        return (
            machine in self.machines
            or not set(self.capabilities).isdisjoint(capabilities)
            or (self.kernel is not None and kernel >= self.kernel)
        )


@dataclass(frozen=True)
class Rule:
    """An action for the calls ``names``; ``errno`` is what ERRNO returns or TRACE passes on."""

    names: tuple[str, ...]
    action: str = ALLOW
    errno: int = EPERM
    comparisons: tuple[Comparison, ...] = ()
    includes: Condition = Condition()
    excludes: Condition = Condition()


@dataclass(frozen=True)
class Profile:
    """``architectures`` maps each native one to those it runs as well, in libseccomp's names
    (``X86_64``); calls by any other kill the caller."""

    default_action: str
    default_errno: int
    architectures: Mapping[str, tuple[str, ...]]
    rules: tuple[Rule, ...]

    def rules_for(
        self, machine: str, capabilities: Collection[str], kernel: tuple[int, int]
    ) -> Iterator[Rule]:
        """The rules that apply; ``machine`` is Go's name of the architecture."""
        for rule in self.rules:
            here = (machine, capabilities, kernel)
            if rule.includes.holds(*here) and not rule.excludes.meets(*here):
                yield rule


def parse(text: str) -> Profile:
    """A profile from Docker's JSON. Raises InvalidArgument, and NotSupported for
    SCMP_ACT_NOTIFY."""
    document = _load(text)
    if document.get("architectures") and document.get("archMap"):
        raise _wrong("use either 'architectures' or 'archMap', not both")
    try:
        return Profile(
            default_action=_action(document.get("defaultAction")),
            default_errno=_number(document.get("defaultErrnoRet"), EPERM, 4095),
            architectures=_architectures(document),
            rules=tuple(_rule(rule) for rule in document.get("syscalls") or ()),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _wrong(str(error)) from error


def _load(text: str) -> dict[str, Any]:
    if len(text) > MAX_JSON:
        raise _wrong("it is too long")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(str(error)) from error
    if not isinstance(document, dict):
        raise _wrong("it is not an object")
    return document


def _wrong(why: str) -> InvalidArgument:
    return InvalidArgument(f"the seccomp profile cannot be read: {why}")


def _architectures(document: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    flat = document.get("architectures")
    if flat:
        names = tuple(_architecture(name) for name in flat)
        return {name: names for name in names}
    return {
        _architecture(entry["architecture"]): tuple(
            _architecture(name) for name in entry.get("subArchitectures") or ()
        )
        for entry in document.get("archMap") or ()
    }


def _architecture(name: str) -> str:
    if not name.startswith("SCMP_ARCH_"):
        raise ValueError(f"unknown architecture {name!r}")
    return name.removeprefix("SCMP_ARCH_")


def _action(name: object) -> str:
    if name == "SCMP_ACT_NOTIFY":
        raise NotSupported(
            "a seccomp profile cannot ask for SCMP_ACT_NOTIFY here: use another action"
        )
    if not isinstance(name, str) or name not in ACTIONS:
        raise ValueError(f"unknown action {name!r}")
    return name


def _rule(entry: Mapping[str, Any]) -> Rule:
    if entry.get("name") and entry.get("names"):
        raise ValueError("use either 'name' or 'names', not both")
    names = entry.get("names") or [entry["name"]]
    if not all(isinstance(name, str) and name.isascii() and "\0" not in name for name in names):
        raise ValueError("the name of a system call is not a string")
    return Rule(
        names=tuple(names),
        action=_action(entry.get("action")),
        errno=_number(entry.get("errnoRet"), EPERM, 0xFFFF),
        comparisons=tuple(_comparison(argument) for argument in entry.get("args") or ()),
        includes=_condition(entry.get("includes") or {}),
        excludes=_condition(entry.get("excludes") or {}),
    )


def _comparison(entry: Mapping[str, Any]) -> Comparison:
    operator = str(entry.get("op")).removeprefix("SCMP_CMP_")
    if operator not in OPERATORS:
        raise ValueError(f"unknown comparison {entry.get('op')!r}")
    return Comparison(
        _number(entry.get("index"), 0, 5),
        _number(entry.get("value"), 0, 2**64 - 1),
        operator,
        _number(entry.get("valueTwo"), 0, 2**64 - 1),
    )


def _condition(entry: Mapping[str, Any]) -> Condition:
    kernel = entry.get("minKernel")
    return Condition(
        tuple(str(name) for name in entry.get("arches") or ()),
        tuple(str(name).upper().removeprefix("CAP_") for name in entry.get("caps") or ()),
        _kernel(kernel) if kernel else None,
    )


def _kernel(version: str) -> tuple[int, int]:
    major, dot, minor = version.partition(".")
    if not (dot and major.isdecimal() and minor.isdecimal()):
        raise ValueError(f"invalid kernel version {version!r}, expected <kernel>.<major>")
    return int(major), int(minor)


def _number(value: object, default: int, largest: int) -> int:
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise ValueError(f"{value!r} is not a number from 0 to {largest}")
    return value
