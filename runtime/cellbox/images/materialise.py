"""The image ``host`` as one real layer, for what needs layers: ``FROM host``, save, push.

A machine's whole ``/usr`` is too much to carry about, so the layer holds the skeleton, a shell, the
programs that scripts expect, this Python with its standard library (without the packages that were
installed), and the libraries that all of these need. Owners are root, times those of the host, so
that compiled Python files stay valid. It runs on machines of this kind only.
"""

from __future__ import annotations

import os
import stat
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

from cellbox.images import tar, tarwrite
from cellbox.images.content import CHUNK
from cellbox.images.elf import Linker
from cellbox.images.host import HostImage
from cellbox.images.layers import write
from cellbox.images.snapshots import LayerStore, Staged
from cellbox.model.image import OCI_LAYER

PROGRAMS = """
    sh bash dash env awk cmp diff find grep egrep fgrep gzip gunzip zcat hostname kill less mount ps
    sed tar umount which xargs clear
    [ b2sum base32 base64 basename cat chgrp chmod chown cksum comm cp csplit cut date dd df dir
    dircolors dirname du echo expand expr factor false fmt fold groups head hostid id install join
    link ln logname ls md5sum mkdir mkfifo mknod mktemp mv nice nl nohup nproc numfmt od paste
    pathchk pr printenv printf pwd readlink realpath rm rmdir seq sha1sum sha224sum sha256sum
    sha384sum sha512sum shred shuf sleep sort split stat stdbuf stty sum sync tac tail tee test
    timeout touch tr true truncate tsort tty uname unexpand uniq unlink users vdir wc who whoami yes
""".split()
"""What scripts expect to be there, as far as the host has it; the last part is coreutils."""

_FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")
_LATE_LIBRARIES = ("libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1", "libresolv.so.2")
_DATA = (
    "/usr/lib/locale/C.utf8",
    "/usr/lib/os-release",
    "/usr/lib/ssl",
    *(
        f"{base}/{name}"
        for base in ("/usr/share/terminfo", "/lib/terminfo")
        for name in ("d/dumb", "l/linux", "s/screen", "v/vt100", "x/xterm", "x/xterm-256color")
    ),
)
_LEFT_OUT = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idlelib", "turtledemo", "lib2to3"}
)


def materialise(image: HostImage, layers: LayerStore) -> Staged:
    """Stage the layer; about 60 MB and a second or two. Raises OSError."""
    with tempfile.TemporaryFile(dir=image.skeleton.parent) as spool:
        _write(image, spool)
        spool.seek(0)
        return layers.apply("", OCI_LAYER, spool.fileno())


def _write(image: HostImage, spool: IO[bytes]) -> None:
    files: dict[str, str] = {}
    for path in _skeleton(image):
        files[os.path.relpath(path, image.skeleton)] = path
    for path in chosen_files():
        for step in _steps(path):
            files.setdefault(step.lstrip("/"), step)
    write(_blocks(files), spool.fileno())


def _skeleton(image: HostImage) -> Iterator[str]:
    for folder, names, others in os.walk(image.skeleton):
        yield from (os.path.join(folder, name) for name in (*names, *others))


def chosen_files() -> set[str]:
    """The paths of everything that is taken from the host beside the skeleton."""
    programs = [path for name in PROGRAMS if (path := _program(name))]
    python = set(_python())
    linked = [path for path in python if path.endswith(".so") or ".so." in path]
    executables = [path for path in python if os.path.basename(os.path.dirname(path)) == "bin"]
    linker = Linker()
    late = [path for name in _LATE_LIBRARIES if (path := linker.library(name, sys.executable))]
    found = linker.closure([*programs, *linked, *executables, *late])
    for path in _DATA:
        found.update(_below(path))
    return found | python


def _program(name: str) -> str:
    paths = (os.path.join(folder, name) for folder in _FOLDERS)
    return next((path for path in paths if os.access(path, os.X_OK)), "")


def _python() -> Iterator[str]:
    """This interpreter, its environment's frame, and the standard library."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for prefix in {sys.prefix, sys.base_prefix}:
        for name in ("python", "python3", f"python{version}"):
            if os.path.exists(path := os.path.join(prefix, "bin", name)):
                yield path
        if os.path.exists(config := os.path.join(prefix, "pyvenv.cfg")):
            yield config
    yield os.path.abspath(sys.executable)
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    base |= {"installed_base": sys.base_prefix, "installed_platbase": sys.base_exec_prefix}
    for kind in ("stdlib", "platstdlib"):
        yield from _below(sysconfig.get_path(kind, vars=base))


def _below(path: str) -> Iterator[str]:
    """``path``, or the files below it that are worth their room."""
    if os.path.isfile(path):
        yield path
    for folder, names, others in os.walk(path):
        names[:] = [
            name for name in names if name not in _LEFT_OUT and not name.startswith("config-")
        ]
        for name in others:
            if not name.endswith((".a", ".opt-1.pyc", ".opt-2.pyc")):
                yield os.path.join(folder, name)


def _steps(path: str) -> Iterator[str]:
    """The file at ``path`` by its real place, and the links that lead to it."""
    for _ in range(16):
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        yield path
        if not os.path.islink(path):
            return
        path = os.path.join(os.path.dirname(path), os.readlink(path))


def _blocks(files: dict[str, str]) -> Iterator[bytes]:
    done: set[str] = set()
    for name in sorted(files):
        for parent in _missing_parents(name, done, files):
            yield tarwrite.header(parent.encode() + b"/", tar.DIRECTORY, mode=0o755)
        yield from _entry(name, files[name])
        done.add(name)
    yield tarwrite.END


def _missing_parents(name: str, done: set[str], files: dict[str, str]) -> Iterable[str]:
    parts = name.split("/")[:-1]
    for number in range(1, len(parts) + 1):
        parent = "/".join(parts[:number])
        if parent not in done and parent not in files:
            done.add(parent)
            yield parent


def _entry(name: str, path: str) -> Iterator[bytes]:
    facts = os.lstat(path)
    coded = os.fsencode(name)
    mode, mtime = stat.S_IMODE(facts.st_mode), max(int(facts.st_mtime), 0)
    if stat.S_ISLNK(facts.st_mode):
        target = os.fsencode(os.readlink(path))
        yield tarwrite.header(coded, tar.SYMLINK, mode=0o777, mtime=mtime, link=target)
    elif stat.S_ISDIR(facts.st_mode):
        yield tarwrite.header(coded + b"/", tar.DIRECTORY, mode=mode, mtime=mtime)
    elif stat.S_ISREG(facts.st_mode):
        yield tarwrite.header(coded, mode=mode, mtime=mtime, size=facts.st_size)
        with open(path, "rb") as file:
            left = facts.st_size
            while left:
                block = file.read(min(CHUNK, left)) or bytes(min(CHUNK, left))
                left -= len(block)
                yield block
        yield tarwrite.padding(facts.st_size)
