"""The image ``host``: this machine's own programs and Python, as an image that needs no download.

Its root is an overlay over a **skeleton**: a small directory in the store with a generated ``/etc``
(system accounts, certificates, linker and shell settings copied one by one from a list; never
passwords, keys, the environment or the machine's id), empty ``/home``, ``/root``, ``/tmp`` and
``/var``, and the host's links between ``/bin`` and ``/usr/bin``. On it stand **trees**: ``/usr``,
and the Python environment at its own path where that lies elsewhere. Each tree is an overlay with
an upper directory of its own, since overlayfs refuses a lower directory that contains the upper
one. A tree that contains the store is bound read-only instead, and the store hidden in it. Nothing
else of the host is there.

A skeleton is named by its content and never changes, so containers may keep standing on an old one.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cellbox.images.config import canonical_json, execution_json, host_platform
from cellbox.linux.mounts import Mount
from cellbox.model.image import Image, ImageConfig

NAME = "host:latest"
HOST_LABEL = "io.cellbox.host"
"""Marks the image in its config, whatever its name."""
_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_USR_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_FOLDERS = {
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "media": 0o755,
    "mnt": 0o755,
    "opt": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "srv": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "usr": 0o755,
    "var": 0o755,
    "var/cache": 0o755,
    "var/lib": 0o755,
    "var/log": 0o755,
    "var/spool": 0o755,
    "var/tmp": 0o1777,
}
_ETC = (
    "alternatives",
    "bash.bashrc",
    "bash_completion.d",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "ethertypes",
    "fonts",
    "gai.conf",
    "host.conf",
    "inputrc",
    "java",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "login.defs",
    "lsb-release",
    "magic",
    "mime.types",
    "networks",
    "nsswitch.conf",
    "openmpi",
    "os-release",
    "papersize",
    "pki/ca-trust",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "profile",
    "protocols",
    "R",
    "redhat-release",
    "rpc",
    "services",
    "shells",
    "skel",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
)
_SECRET = (".key", "-key.pem", "private")
_SIZE_LIMIT = 4 << 20
_FIRST_USER = 1000
_NOBODY = range(65533, 65536)


@dataclass(frozen=True)
class Tree:
    """A part of the host: what is at ``source`` there is at ``target`` in a container.

    ``store`` is the path below ``target`` where the engine's store would show, empty if it would
    not.
    """

    target: str
    source: str
    store: str = ""


@dataclass(frozen=True)
class Part:
    """One writable part of a container: its changes to ``target`` are in ``upper``, over
    ``lower``."""

    target: str
    upper: Path
    lower: Path


class HostImage:
    """The image ``host`` of the store at ``root``, for the Python that runs this."""

    def __init__(self, root: Path, trees: Sequence[Tree] | None = None, etc: str = "/etc") -> None:
        self._root = root
        self._etc = etc
        self.trees = tuple(find_trees(root) if trees is None else trees)

    def facts(self) -> Image:
        """The image; its id changes with its config, its skeleton and its trees."""
        config = host_config()
        told = {
            "config": execution_json(config),
            "skeleton": self.skeleton.name,
            "trees": [[tree.target, tree.source] for tree in self.trees],
        }
        return Image(
            id="sha256:" + hashlib.sha256(canonical_json(told)).hexdigest(),
            tags=(NAME,),
            digests=(),
            layers=(),
            config=config,
            platform=host_platform(),
            size=0,
            comment="this machine's own programs; not portable",
        )

    @cached_property
    def skeleton(self) -> Path:
        """The directory below everything, made if it is not there yet."""
        items = sorted(_skeleton_items(self.trees, self._etc))
        digest = hashlib.sha256(repr(items).encode()).hexdigest()[:32]
        path = self._root / "host" / digest
        if not path.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            draft = path.parent / f"draft-{secrets.token_hex(8)}"
            _build(draft, items)
            try:
                draft.rename(path)
            except OSError:  # another process was faster
                shutil.rmtree(draft)
                if not path.exists():
                    raise
        return path

    def prepare(self, writable: Path) -> None:
        """Fill the empty directory ``writable`` with what :meth:`mounts` will need."""
        for part in self.parts(writable):
            mode = stat.S_IMODE(part.lower.stat().st_mode)
            part.upper.mkdir(parents=True)
            part.upper.chmod(mode)
            (part.upper.parent / "work").mkdir(mode=0o700)

    def parts(self, writable: Path) -> tuple[Part, ...]:
        """The writable parts, the root first."""
        root = Part("/", writable / "upper", self.skeleton)
        return (root, *(_part(writable, number, tree) for number, tree in self._overlays()))

    def _overlays(self) -> list[tuple[int, Tree]]:
        return [(number, tree) for number, tree in enumerate(self.trees) if not tree.store]

    def mounts(self, writable: Path) -> tuple[Mount, ...]:
        """The mounts that show it all, the root first, each after what it stands on."""
        overlays = {part.target: _overlay(part) for part in self.parts(writable)}
        mounts = [overlays.pop("/")]
        for tree in self.trees:
            if tree.store:
                mounts.append(
                    Mount("bind", tree.target, source=tree.source, flags=("ro",), idmap=True)
                )
                mounts.append(
                    Mount("tmpfs", tree.store, flags=("ro", "nosuid", "nodev"), data="size=4k")
                )
            else:
                mounts.append(overlays[tree.target])
        return tuple(mounts)


def _part(writable: Path, number: int, tree: Tree) -> Part:
    return Part(tree.target, writable / "trees" / str(number) / "upper", Path(tree.source))


def _overlay(part: Part) -> Mount:
    return Mount(
        "overlay",
        part.target,
        lowers=(str(part.lower),),
        upper=str(part.upper),
        work=str(part.upper.parent / "work"),
        idmap=True,
    )


def host_config() -> ImageConfig:
    """What a container of the image runs with: this Python first in PATH, and a shell."""
    path = dict.fromkeys((os.path.join(sys.prefix, "bin"), *_PATH))
    env = [f"PATH={':'.join(path)}", "LANG=C.UTF-8"]
    if sys.prefix != sys.base_prefix:
        env.append(f"VIRTUAL_ENV={sys.prefix}")
    shell = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"
    return ImageConfig(env=tuple(env), command=(shell,), labels={HOST_LABEL: "true"})


def find_trees(store: Path) -> Iterator[Tree]:
    """The trees of this machine and this Python, each before those that lie in it."""
    wanted = ["/usr", *(f"/{name}" for name in _USR_LINKS)]
    for prefix in (sys.base_prefix, sys.base_exec_prefix, sys.prefix, sys.exec_prefix):
        wanted += [os.path.abspath(prefix), os.path.realpath(prefix)]
    chosen: list[str] = []
    for path in sorted(set(wanted)):
        if _is_tree(path) and not any(_shows(above, path) for above in chosen):
            chosen.append(path)
            yield _tree(path, os.path.realpath(store))


def _is_tree(path: str) -> bool:
    """A directory, or a prefix that is a link to one; a home is private, not a Python."""
    private = {"/", "/home", "/root", "/tmp", "/var", "/etc", os.path.expanduser("~")}
    merged = os.path.dirname(path) == "/" and os.path.islink(path)
    return os.path.isdir(path) and path not in private and not merged


def _shows(above: str, path: str) -> bool:
    """Does the tree ``above`` show ``path`` already? Not if a file system is mounted between."""
    inside = os.path.commonpath((above, path)) == above
    return inside and os.stat(above).st_dev == os.stat(path).st_dev


def _tree(path: str, store: str) -> Tree:
    source = os.path.realpath(path)
    inside = os.path.commonpath((source, store)) == source
    shown = os.path.join(path, os.path.relpath(store, source)) if inside else ""
    return Tree(path, source, os.path.normpath(shown) if shown else "")


# --- the skeleton --------------------------------------------------------------------------------

_Item = tuple[str, int, bytes]
"""A path without a leading slash, st_mode, and a file's bytes or a link's target."""


def _skeleton_items(trees: Iterable[Tree], etc: str) -> Iterator[_Item]:
    folders = dict(_FOLDERS)
    for tree in trees:
        path = tree.target.lstrip("/")
        while path and path not in folders:
            folders[path] = 0o755
            path = os.path.dirname(path)
    for name, mode in folders.items():
        yield name, stat.S_IFDIR | mode, b""
    for name in _USR_LINKS:
        if os.path.islink(f"/{name}") and name not in folders:
            yield name, stat.S_IFLNK | 0o777, os.fsencode(os.readlink(f"/{name}"))
    yield "etc/passwd", stat.S_IFREG | 0o644, _accounts(f"{etc}/passwd", b"root:x:0:0:root:/root:")
    yield "etc/group", stat.S_IFREG | 0o644, _accounts(f"{etc}/group", b"root:x:0:")
    yield "etc/mtab", stat.S_IFLNK | 0o777, b"/proc/self/mounts"
    for name in (*_ETC, *_pythons(etc)):
        copied = list(_copied(f"{etc}/{name}", f"etc/{name}"))
        for parent in _parents(f"etc/{name}") if copied else ():
            yield parent, stat.S_IFDIR | 0o755, b""
        yield from copied


def _pythons(etc: str) -> list[str]:
    return [name for name in os.listdir(etc) if name.startswith("python3")]


def _parents(path: str) -> Iterator[str]:
    above = os.path.dirname(path)
    if above and above != "etc":
        yield from _parents(above)
        yield above


def _accounts(path: str, fallback: bytes) -> bytes:
    """The accounts of the system itself; those of people are nobody's business in a container."""
    kept = []
    try:
        with open(path, "rb") as file:
            lines = file.read(_SIZE_LIMIT).splitlines()
    except OSError:
        lines = [fallback]
    for line in lines:
        fields = line.split(b":")
        if len(fields) > 3 and fields[2].isdigit():
            number = int(fields[2])
            if number < _FIRST_USER or number in _NOBODY:
                # No password, should it still be here; no people as members of a group.
                rest = [b""] if len(fields) == 4 else fields[3:]
                kept.append(b":".join([fields[0], b"x", fields[2], *rest]))
    return b"\n".join(kept) + b"\n"


def _copied(source: str, name: str) -> Iterator[_Item]:
    """What is at ``source``, if everybody may read it: links as they are, directories whole."""
    try:
        facts = os.lstat(source)
    except OSError:
        return
    if stat.S_ISLNK(facts.st_mode):
        yield name, stat.S_IFLNK | 0o777, os.fsencode(os.readlink(source))
    elif not facts.st_mode & stat.S_IROTH or name.endswith(_SECRET):
        return
    elif stat.S_ISDIR(facts.st_mode):
        yield name, stat.S_IFDIR | 0o755, b""
        for entry in sorted(os.listdir(source)):
            yield from _copied(f"{source}/{entry}", f"{name}/{entry}")
    elif stat.S_ISREG(facts.st_mode) and facts.st_size <= _SIZE_LIMIT:
        with open(source, "rb") as file:
            yield name, stat.S_IFREG | stat.S_IMODE(facts.st_mode) & 0o755, file.read()


def _build(target: Path, items: Iterable[_Item]) -> None:
    """Write a skeleton; every time is the epoch, so that equal ones are equal."""
    target.mkdir(mode=0o755)
    folders = [(target, 0o755)]
    for name, mode, data in items:
        path = target / name
        if stat.S_ISDIR(mode):
            path.mkdir(mode=0o755, exist_ok=True)
            folders.append((path, stat.S_IMODE(mode)))
        elif stat.S_ISLNK(mode):
            path.symlink_to(os.fsdecode(data))
        else:
            path.write_bytes(data)
            path.chmod(stat.S_IMODE(mode))
            os.utime(path, (0, 0))
    for path, bits in reversed(folders):
        path.chmod(bits)
        os.utime(path, (0, 0))
