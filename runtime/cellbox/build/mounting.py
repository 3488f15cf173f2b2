"""What RUN mounts, brought to this machine: copies of files, caches, secrets, sockets of agents.

A copy is the step's own: what is written to it is thrown away with it. What a bind holds is part of
the step's key; what a cache, a secret or an agent holds is not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from cellbox.build import config as configs
from cellbox.build import copying, tree
from cellbox.build.agents import forwarded
from cellbox.build.bench import Bench
from cellbox.build.copying import Placed, Source, Wish
from cellbox.build.mounts import Kind, Mount, Sharing
from cellbox.build.tree import Node
from cellbox.errors import InvalidArgument, NotFound
from cellbox.model.build import BuildSecret, BuildSpec
from cellbox.model.container import MountKind, MountSpec
from cellbox.model.image import ImageConfig

Files = Callable[[str], Callable[[str], list[Source]]]
"""Gives, for the name of a stage or an image (empty: the context), what finds files there."""

_FILE = "file"
"""The name of a single file in the directory that is made for it."""
_AGENT = "/run/buildkit/ssh_agent."
_MAGIC = re.compile(r"([*?\[\\])")
_STRENGTH = (Sharing.SHARED, Sharing.PRIVATE, Sharing.LOCKED)


@dataclass(frozen=True)
class _Wanted:
    """A mount with its absolute target, and the files that it brings, where it brings any."""

    mount: Mount
    target: str
    files: Source | None = None

    @property
    def digest(self) -> str:
        """Stands for what the files are."""
        if self.files is None:
            return ""
        return copying.digest([self.files], keeps_owners=bool(self.mount.origin))

    @property
    def told(self) -> str:
        """The flag as the history tells it, with what the step's result depends on."""
        kind = self.mount.kind
        content = f":{self.digest}" if kind is Kind.BIND else ""
        return f"--mount={kind}{content} in {self.target}"

    @property
    def cache(self) -> str:
        """What names a cache in the store: its id, and how it begins."""
        mount = self.mount
        return repr((mount.name, self.digest, mount.uid, mount.gid, mount.mode))


class Mounts:
    """The mounts of one step, in their order."""

    def __init__(
        self,
        bench: Bench,
        spec: BuildSpec,
        config: ImageConfig,
        mounts: Sequence[Mount],
        files: Files,
    ) -> None:
        self._bench = bench
        self._spec = spec
        self._wanted = [_wanted(config, mount, files) for mount in mounts]
        self._caches: dict[str, str] = {}
        self.specs: list[MountSpec] = []
        self.env: list[str] = []
        self.secret_env: list[str] = []

    @property
    def told(self) -> list[str]:
        """The flags as the history tells them."""
        return [one.told for one in self._wanted]

    def bring(self, held: ExitStack) -> None:
        """Make ``specs``, ``env`` and ``secret_env`` of them; all is there until ``held`` ends.
        Raises InvalidArgument, NotFound (a secret)."""
        self._take_caches(held)
        bring = {
            Kind.BIND: self._bind,
            Kind.CACHE: self._cache,
            Kind.TMPFS: self._tmpfs,
            Kind.SECRET: self._secret,
            Kind.SSH: self._ssh,
        }
        for one in self._wanted:
            bring[one.mount.kind](one, held)

    # Kinds ---------------------------------------------------------------------------------------

    def _bind(self, one: _Wanted, held: ExitStack) -> None:
        place = held.enter_context(self._bench.shop.fleeting(lambda: _archive(one)))
        single = one.files is not None and not one.files.spread
        self._add(one, f"{place}/{_FILE}" if single else place)

    def _take_caches(self, held: ExitStack) -> None:
        """Take each cache once, in an order that is the same for all builds: two that want the
        same ones do not wait for each other for ever."""
        caches = [one for one in self._wanted if one.mount.kind is Kind.CACHE]
        for one in sorted(caches, key=lambda one: one.cache):
            if one.cache not in self._caches:
                all_ = [other.mount.sharing for other in caches if other.cache == one.cache]
                sharing = max((each or Sharing.SHARED for each in all_), key=_STRENGTH.index)
                self._caches[one.cache] = held.enter_context(
                    self._bench.shop.cache(
                        one.cache, partial(_archive, one), sharing, self._bench.check
                    )
                )

    def _cache(self, one: _Wanted, held: ExitStack) -> None:
        self._add(one, self._caches[one.cache])

    def _tmpfs(self, one: _Wanted, held: ExitStack) -> None:
        self.specs.append(
            MountSpec(
                MountKind.TMPFS,
                one.target,
                size=one.mount.size,
                read_only=not one.mount.writable,
            )
        )

    def _secret(self, one: _Wanted, held: ExitStack) -> None:
        mount = one.mount
        data = _read(self._spec.secrets.get(mount.name))
        if data is None:
            if mount.required:
                raise NotFound("secret", mount.name)
            return
        if mount.variable is not None:
            text = os.fsdecode(data)
            if "\0" in text:
                raise InvalidArgument(f"secret {mount.name} cannot be in a variable: it has a NUL")
            self.secret_env.append(f"{mount.variable or mount.name}={text}")
        if mount.place:
            mode = 0o400 if mount.mode is None else mount.mode
            placed = Placed(_FILE, tree.file(data), mount.uid or 0, mount.gid or 0, mode)
            folder = self._bench.shop.fleeting(lambda: _packed([placed]), secret=True)
            self._add(one, f"{held.enter_context(folder)}/{_FILE}")

    def _ssh(self, one: _Wanted, held: ExitStack) -> None:
        socket = self._spec.ssh.get(one.mount.name)
        if socket is None:
            if one.mount.required:
                raise InvalidArgument(f'no SSH key "{one.mount.name}" forwarded from the client')
            return
        count = sum(1 for spec in self.specs if spec.target.startswith(_AGENT))
        target = one.target or f"{_AGENT}{count}"
        agent = held.enter_context(forwarded(socket))
        self.specs.append(MountSpec(MountKind.BIND, target, agent))
        if not self.env:
            self.env.append(f"SSH_AUTH_SOCK={target}")

    def _add(self, one: _Wanted, source: str) -> None:
        read_only = not one.mount.writable
        self.specs.append(MountSpec(MountKind.BIND, one.target, source, read_only=read_only))


def _wanted(config: ImageConfig, mount: Mount, files: Files) -> _Wanted:
    place = mount.place if mount.kind is Kind.SECRET else mount.target
    target = configs.absolute(config, place) if place else ""
    if target == "/":
        raise InvalidArgument(f'invalid mount target "{target}"')
    brings = mount.kind is Kind.BIND or (mount.kind is Kind.CACHE and mount.origin)
    if not brings:
        if mount.kind is Kind.CACHE and tree.parts_of(mount.source):
            raise _missing(mount)
        return _Wanted(mount, target)
    return _Wanted(mount, target, _found(mount, files))


def _found(mount: Mount, files: Files) -> Source:
    try:
        found = files(mount.origin)(_MAGIC.sub(r"\\\1", mount.source))
    except InvalidArgument as error:
        if "does not exist" in str(error):
            raise _missing(mount) from None
        raise
    if not found:
        raise _missing(mount)
    return found[0]


def _missing(mount: Mount) -> InvalidArgument:
    path = "/" + "/".join(tree.parts_of(mount.source))
    return InvalidArgument(f'failed to compute cache key: "{path}": not found')


def _read(secret: BuildSecret | None) -> bytes | None:
    """What a secret is; None where it is not given."""
    if secret is None:
        return None
    if secret.variable:
        return os.environb.get(os.fsencode(secret.variable))
    try:
        return Path(secret.file).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"failed to read secret {secret.file}: {error.strerror}") from None


# Archives ----------------------------------------------------------------------------------------


def _archive(one: _Wanted) -> BinaryIO:
    return _packed(_placed(one))


def _packed(placed: Sequence[Placed] | Iterator[Placed]) -> BinaryIO:
    return copying.reader(copying.packed(placed))


def _placed(one: _Wanted) -> Iterator[Placed]:
    mount = one.mount
    wish = Wish(keeps_owners=bool(mount.origin))
    top = Node(tree.Kind.DIRECTORY)
    if one.files is not None and one.files.spread:
        top = one.files.node
    root = wish.placed(".", top, unpacked=False)
    uid = root.uid if mount.uid is None else mount.uid
    gid = root.gid if mount.gid is None else mount.gid
    yield Placed(".", top, uid, gid, root.mode if mount.mode is None else mount.mode)
    if one.files is not None:
        yield from copying.place([one.files], _FILE, "", wish)
