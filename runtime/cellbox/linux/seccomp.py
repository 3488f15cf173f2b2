"""Seccomp profiles made into programs that the kernel runs at each system call (seccomp(2)).

libseccomp does the work: it knows the numbers of the calls on each architecture, and translates a
rule for x86-64 into one for i386 and x32 as well, which a process can enter at any time. In front
of its program goes a stub of our own: a number above all that the profile knows gets ENOSYS
instead of the default EPERM, so that a C library that tries a newer call falls back to an older
one, as it does on an old kernel.

Compiling takes tens of milliseconds and the result depends on little, so programs are kept by
:func:`cached`. Loading one is :func:`cellbox.linux.syscalls.seccomp_load`.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import platform
import struct
from collections.abc import Collection, Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from cellbox.errors import NotSupported
from cellbox.linux import seccomp_default
from cellbox.linux.seccomp_profile import Comparison, Profile, Rule, parse

DEFAULT = "default"

_FORMAT = 1  # to be raised with every change here that makes other programs of the same input
_GO_MACHINE = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "s390x": "s390x",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
}
_LENIENT = frozenset(("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"))
_X32_BIT = 0x40000000
_MISSING = (
    "seccomp filters need libseccomp: apt-get install libseccomp2, "
    "or do without one: --security-opt seccomp=unconfined"
)


def compile(profile: str, capabilities: Collection[str]) -> bytes:
    """The program for ``profile``: an array of struct sock_filter, in this machine's byte order.

    ``profile`` is ``"default"`` or Docker's JSON; ``capabilities`` are those of the container's
    bounding set, which decide what is conditional. Raises InvalidArgument for a wrong profile and
    NotSupported where libseccomp is missing.
    """
    library = _library()
    known = seccomp_default.PROFILE if profile == DEFAULT else parse(profile)
    machine = _GO_MACHINE.get(platform.machine(), platform.machine())
    names = [name.upper().removeprefix("CAP_") for name in capabilities]
    architectures = _architectures(library, known)
    default = _action(library, known.default_action, known.default_errno)
    built = library.SyscallFilter(default)
    built.set_attr(library.Attr.CTL_OPTIMIZE, 2)  # a binary tree: 9 comparisons instead of 400
    for architecture in architectures[1:]:
        built.add_arch(architecture)
    for rule in known.rules_for(machine, names, _kernel()):
        _add(library, built, default, rule)
    stub = b"" if known.default_action in _LENIENT else _stub(library, known, architectures)
    return stub + _export(built)


def cached(directory: Path, profile: str, capabilities: Collection[str]) -> Path:
    """The file in ``directory`` that holds the program, made if it is not there.

    Its name is the digest of all that the program depends on. Several processes and threads may do
    this at once, and what has the name is whole. Raises as :func:`compile`, and OSError.
    """
    path = directory / f"{_key(profile, tuple(sorted(capabilities)))}.bpf"
    if not path.exists():
        program = compile(profile, capabilities)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        staging = directory / f".{path.name}.{os.urandom(6).hex()}"
        try:
            with staging.open("xb") as file:
                file.write(program)
                file.flush()
                os.fsync(file.fileno())
            staging.rename(path)
        except OSError:
            staging.unlink(missing_ok=True)
            raise
    return path


def version() -> tuple[int, int, int]:
    """libseccomp's version. Raises NotSupported where it is missing."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise NotSupported(_MISSING) from error
    library.seccomp_version.restype = ctypes.POINTER(ctypes.c_uint * 3)
    major, minor, micro = library.seccomp_version().contents
    return major, minor, micro


@cache
def _digest(profile: str) -> str:
    text = repr(seccomp_default.PROFILE) if profile == DEFAULT else profile
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=64)
def _key(profile: str, capabilities: tuple[str, ...]) -> str:
    here = (_FORMAT, version(), platform.machine(), _kernel())
    facts = (_digest(profile), here, list(capabilities))
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _library() -> Any:
    try:
        import pyseccomp  # it looks for the C library when it is imported, which takes 30 ms
    except (ImportError, RuntimeError, OSError) as error:
        raise NotSupported(_MISSING) from error
    return pyseccomp


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)


def _architectures(library: Any, profile: Profile) -> list[int]:
    """libseccomp's tokens: the native one, then those that ``profile`` runs beside it."""
    native = library.system_arch()
    tokens = {name: token for name, token in vars(library.Arch).items() if name.isupper()}
    for name, others in profile.architectures.items():
        if tokens.get(name) == native:
            beside = (tokens[other] for other in others if other in tokens)
            return [native, *(token for token in beside if token != native)]
    return [native]


def _action(library: Any, name: str, number: int) -> int:
    short = name.removeprefix("SCMP_ACT_")
    value = getattr(library, short)
    return int(value(number) if short in ("ERRNO", "TRACE") else value)


def _add(library: Any, built: Any, default: int, rule: Rule) -> None:
    action = _action(library, rule.action, rule.errno)
    if action == default:
        return  # libseccomp refuses a rule that changes nothing
    for name in rule.names:
        number = library.resolve_syscall(library.Arch.NATIVE, name)
        if number == -1:
            continue
        for comparisons in _alternatives(rule.comparisons):
            built.add_rule(action, number, *(_argument(library, one) for one in comparisons))


def _alternatives(comparisons: tuple[Comparison, ...]) -> Iterable[tuple[Comparison, ...]]:
    """All at once, or one by one where an argument occurs twice, which libseccomp cannot join; so
    does runc, and profiles rely on it."""
    indexes = [one.index for one in comparisons]
    if len(set(indexes)) == len(indexes):
        return (comparisons,)
    return ((one,) for one in comparisons)


def _argument(library: Any, one: Comparison) -> Any:
    return library.Arg(one.index, getattr(library, one.operator), one.value, one.value_two)


def _export(built: Any) -> bytes:
    with os.fdopen(os.memfd_create("seccomp"), "w+b") as file:
        built.export_bpf(file)
        file.seek(0)
        return file.read()


# The stub -------------------------------------------------------------------------------------

_LOAD, _EQUAL, _GREATER, _BITS, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_ERRNO_ENOSYS = 0x00050000 | errno.ENOSYS

_Line = tuple[int, int, str, str]
"""An instruction: code, operand, and the labels to go to if true and if false, "" for the next."""


def _stub(library: Any, profile: Profile, architectures: list[int]) -> bytes:
    """Instructions that return ENOSYS for a number above all that ``profile`` names, and else go on
    to the program that follows. An architecture is a value of AUDIT_ARCH_*; x32 shares x86-64's and
    marks its numbers with a bit."""
    names = {name for rule in profile.rules for name in rule.names}
    last = {token: _last(library, token, names) for token in architectures}
    x32 = last.pop(library.Arch.X32, 0) if library.Arch.X86_64 in last else 0
    lines: list[_Line] = [(_LOAD, _ARCHITECTURE, "", "")]
    labels: dict[str, int] = {}
    for index, (token, largest) in enumerate(last.items()):
        labels[f"architecture {index}"] = len(lines)
        lines += [(_EQUAL, token, "", f"architecture {index + 1}"), (_LOAD, _NUMBER, "", "")]
        if x32 and token == library.Arch.X86_64:
            lines += [(_BITS, _X32_BIT, "", "unmarked")]
            lines += [(_GREATER, _X32_BIT | x32, "enosys", "filter")]
            labels["unmarked"] = len(lines)
        lines += [(_GREATER, largest, "enosys", "filter")]
    labels[f"architecture {len(last)}"] = labels["filter"] = len(lines) + 1
    labels["enosys"] = len(lines)
    lines += [(_RETURN, _ERRNO_ENOSYS, "", "")]
    return _assemble(lines, labels)


def _last(library: Any, token: int, names: Iterable[str]) -> int:
    numbers = (library.resolve_syscall(token, name) for name in names)
    return max((number & ~_X32_BIT for number in numbers if number >= 0), default=0)


def _assemble(lines: list[_Line], labels: Mapping[str, int]) -> bytes:
    def distance(label: str, place: int) -> int:
        return labels[label] - place - 1 if label else 0

    return b"".join(
        struct.pack("=HBBI", code, distance(true, place), distance(false, place), operand)
        for place, (code, operand, true, false) in enumerate(lines)
    )
