"""Where a store lies: its root on disk, and its run directory, which a reboot empties.

=============== ================================== ===============================================
user            root                               run directory
=============== ================================== ===============================================
root            /var/lib/cellbox                   /run/cellbox
anybody else    $XDG_DATA_HOME/cellbox             $XDG_RUNTIME_DIR/cellbox
any other root  CELLBOX_ROOT, or as asked for      beside the above, named by the root's path
=============== ================================== ===============================================

The run directory must be in memory, so that what it tells of processes ends with them: where the
usual place is not a tmpfs, as in many containers, it is below /dev/shm.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from platformdirs import PlatformDirs

from cellbox.errors import NotSupported, PermissionDenied


def root_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """The root of this user's store."""
    chosen = environ.get("CELLBOX_ROOT")
    if chosen:
        return Path(chosen).absolute()
    return _usual_root()


def _usual_root() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/cellbox")
    return Path(PlatformDirs("cellbox").user_data_dir)


def socket_path(root: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the daemon of the store at ``root`` listens, unless told otherwise.

    Root's socket is for a group too, so it cannot be in the run directory, which only root enters.
    """
    if os.geteuid() == 0 and os.access("/run", os.W_OK):
        return Path("/run") / f"{_name(root)}.sock"
    return run_directory(root, environ) / "cellbox.sock"


def _name(root: Path) -> str:
    if root == _usual_root():
        return "cellbox"
    return "cellbox-" + hashlib.sha256(os.fsencode(root)).hexdigest()[:12]


def run_directory(root: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """The run directory of the store at ``root``; not made yet."""
    name = _name(root)
    usual = "/run" if os.geteuid() == 0 else environ.get("XDG_RUNTIME_DIR", "")
    in_memory = _tmpfs_mounts()
    for place, own in ((usual, True), ("/dev/shm", False)):
        if place and _mount_of(place) in in_memory and os.access(place, os.W_OK):
            return Path(place) / (name if own else f"{name}-{os.geteuid()}")
    return root / "run"


def make_private(path: Path) -> None:
    """Make ``path`` a directory that only this user can enter, or make sure that it is one.

    Raises PermissionDenied where somebody else was there first, NotSupported where it cannot be
    made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
            if stat.S_IMODE(status.st_mode) != 0o700:
                path.chmod(0o700)
            return
    except OSError as error:
        raise NotSupported(
            f"cannot make {path} ({error.strerror}): set CELLBOX_ROOT to a directory of yours"
        ) from error
    raise PermissionDenied(
        f"{path} belongs to somebody else: set CELLBOX_ROOT to a directory of yours"
    )


def _tmpfs_mounts() -> set[str]:
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        rows = [line.split(" ", 3) for line in file]
    return {row[1] for row in rows if row[2] == "tmpfs"}


def _mount_of(path: str) -> str:
    while not os.path.ismount(path):
        path = os.path.dirname(path) or "/"
    return path
