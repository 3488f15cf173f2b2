"""What a worker process can be asked to do: :data:`JOBS`, by name.

A worker is forked for one job, holds the ids of container root and little else, and ends with it.
A job gets its arguments as JSON values and file descriptors beside them, returns a JSON object, and
raises OSError or an error of the tree. It never looks at who it is: what the worker's user
namespace does not allow is counted or refused by the kernel.

Paths of the store come as strings and are opened before anything strange is read. In a process of
its own a job can give up the rest of the machine first: :func:`run_confined`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

from cellbox import volumes
from cellbox.images import cp, diff, layers, populate, tarwrite, trees
from cellbox.images.compression import fd_reader, part_reader
from cellbox.images.extract import Whiteouts
from cellbox.images.pack import Options
from cellbox.linux import probe
from cellbox.linux.trees import remove_tree

Job = Callable[[Mapping[str, Any], Sequence[int]], dict[str, Any]]
_confined = False


def run_confined(name: str, args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """The job ``name``, for a process that does nothing else afterwards: jobs that fill one
    directory change their root to it before they read a byte of what goes there (chroot(2))."""
    global _confined
    _confined = True
    return JOBS[name](args, fds)


@contextmanager
def _directories(*paths: str) -> Iterator[list[int]]:
    with ExitStack() as stack:
        opened = []
        for path in paths:
            opened.append(trees.open_directory(path))
            stack.callback(os.close, opened[-1])
        yield opened


def _enter(root: int) -> None:
    """Make ``root`` the process's root, where it may be (a defence behind openat2's)."""
    if not _confined:
        return
    os.fchdir(root)
    try:
        os.chroot(".")
    except PermissionError:
        return  # an unprivileged worker without CAP_SYS_CHROOT still has openat2


def _options(args: Mapping[str, Any], *, overlay: bool) -> Options:
    return Options(
        overlay=overlay,
        latest=args.get("latest"),
        excluded=frozenset(os.fsencode(path) for path in args.get("exclude", ())),
    )


def apply(args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Extract the layer in ``fds[0]`` into the new directory ``target``.

    ``diff_id`` (may be empty); ``part`` (offset and length, optional) of a file in ``fds[0]``;
    ``limits`` (fields of :class:`layers.Limits`, optional). Returns ``diff_id``, ``tar_size``,
    ``size``, ``entries``, ``check`` (see :class:`trees.Usage`) and the counts of
    :class:`extract.Outcome`.
    """
    os.mkdir(args["target"], 0o755)
    with _directories(args["target"]) as (root,):
        limits = layers.Limits(**args.get("limits", {}))
        _enter(root)
        applied = layers.apply(
            part_reader(fds[0], *args["part"]) if args.get("part") else fd_reader(fds[0]),
            root,
            diff_id=args.get("diff_id", ""),
            limits=limits,
            whiteouts=Whiteouts.OVERLAY,
        )
        facts = asdict(applied.outcome) | asdict(trees.usage(root))
    return facts | {"diff_id": applied.diff_id, "tar_size": applied.tar_size}


def changes(args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """What ``upper`` changed over ``lowers`` (topmost first); with ``copied``, ``upper`` is a plain
    copy. Returns ``changes``: pairs of a letter (C, A, D) and an absolute path; and ``points``:
    which paths (without a leading slash) are left out, as they were made for mounts on the paths
    ``points`` only."""
    with _directories(args["upper"], *args["lowers"]) as (upper, *lowers):
        find = diff.copy_changes if args.get("copied") else diff.upper_changes
        found = find(upper, lowers)
        points = [os.fsencode(path) for path in args.get("points", ())]
        taken = diff.take_points(found, points, upper, lowers)
    return {
        "changes": [[kind, "/" + os.fsdecode(path)] for path, kind in found.items()],
        "points": [os.fsdecode(path) for path in taken],
    }


def pack(args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Write the layer in the directory ``upper`` to ``fds[0]``; with ``lowers`` it is a plain copy.

    ``latest`` (seconds) bounds times, ``exclude`` lists paths without a leading slash. Returns
    ``diff_id`` and ``tar_size``.
    """
    with _directories(args["upper"], *args.get("lowers", ())) as (upper, *lowers):
        digest, size = layers.pack(
            upper, fds[0], lowers=lowers, options=_options(args, overlay=True)
        )
    return {"diff_id": digest, "tar_size": size}


def remove(args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Delete the tree at ``path``; fine if it is not there."""
    remove_tree(args["path"])
    return {}


def usage(args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """``size``, ``entries`` and ``check`` of the tree at ``path``."""
    with _directories(args["path"]) as (root,):
        return asdict(trees.usage(root))


def copy(args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Lay ``lowers`` (topmost first) over each other as plain files in the new directory
    ``target``. Returns ``size`` and ``entries``."""
    os.mkdir(args["target"], 0o755)
    with _directories(args["target"], *args["lowers"]) as (target, *lowers):
        outcome = layers.copy(lowers, target)
    return {"size": outcome.size, "entries": outcome.entries}


def overlay_probe(args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Try an overlay as a container's would be, in the new directory ``scratch``. Returns
    ``error``: empty when it works, else what does not."""
    scratch = args["scratch"]
    try:
        os.mkdir(scratch, 0o700)
        number = probe.probe(scratch)["overlay"]
    except OSError as error:
        return {"error": str(error)}
    finally:
        remove_tree(scratch)
    return {"error": os.strerror(number) if number else ""}


def tree_pack(args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Write ``path`` below the directory ``fds[0]`` to ``fds[1]`` as a tar (``cp``, ``export``)."""
    cp.pack_tree(fds[0], os.fsencode(args["path"]), fds[1], _options(args, overlay=False))
    return {}


def tree_unpack(args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Extract the tar in ``fds[1]`` into the directory ``path`` below the directory ``fds[0]``.

    ``owner`` ([uid, gid] or null) and ``keep_kinds`` as :func:`cp.unpack_tree`. Returns the counts
    of :class:`extract.Outcome`.
    """
    owner = args.get("owner")
    outcome = cp.unpack_tree(
        fds[0],
        os.fsencode(args["path"]),
        fds[1],
        owner=None if owner is None else (int(owner[0]), int(owner[1])),
        keep_kinds=bool(args.get("keep_kinds")),
    )
    return asdict(outcome)


def unpack_layer(args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Make the layer in ``fds[0]`` all that is in the writable directory ``upper``; with ``copied``
    put it over the plain copy of the layers below that is there."""
    copied = bool(args.get("copied"))
    with _directories(args["upper"]) as (root,):
        _enter(root)
        if not copied:
            _empty(root)
        whiteouts = Whiteouts.REMOVE if copied else Whiteouts.OVERLAY
        applied = layers.apply(fd_reader(fds[0]), root, whiteouts=whiteouts)
    return asdict(applied.outcome)


def _empty(root: int) -> None:
    for name in os.listdir(root):
        remove_tree(name, dir_fd=root)


def tree_stat(args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """What is at ``path`` below the directory ``fds[0]``: the fields of :class:`cp.Found`."""
    return asdict(cp.find(fds[0], os.fsencode(args["path"])))


def fill_volume(args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Fill the volume in the directory ``volume``, if it is empty, with what is at ``path`` below
    the directory ``fds[0]``; without a ``path`` only finish what was begun. Returns ``filled``."""
    data = os.path.join(args["volume"], volumes.DATA)
    # With a file system of its own it has the copy in it too, so that that can be moved.
    stage = data if volumes.is_mounted(args["volume"]) else args["volume"]
    with _directories(stage, data) as (volume, target):
        if not args.get("path"):
            populate.finish(volume, target)
            return {"filled": False}
        return {"filled": populate.fill(fds[0], os.fsencode(args["path"]), volume, target)}


def pack_volume(args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Write the directory ``path`` to ``fds[0]`` as a tar that begins with ``./``."""
    with _directories(args["path"]) as (root,):
        cp.pack_tree(root, b"/.", fds[0])
    return {}


def layer_volumes(args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Write a layer that holds ``volumes`` to ``fds[0]``: of each the directory here, the path in
    it, and its path in the image. Returns ``diff_id`` and ``tar_size``."""

    def blocks() -> Iterator[bytes]:
        for directory, inside, path in args["volumes"]:
            with _directories(directory) as (root,):
                top = cp.open_directory(root, os.fsencode(inside))
                try:
                    yield from cp.layer_of(top, os.fsencode(path))
                finally:
                    os.close(top)
        yield tarwrite.END

    digest, size = layers.write(blocks(), fds[0])
    return {"diff_id": digest, "tar_size": size}


def unpack_volume(args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Make what the tar in ``fds[0]`` holds all that is in the directory ``path``. Returns the
    counts of :class:`extract.Outcome`."""
    with _directories(args["path"]) as (root,):
        _enter(root)
        _empty(root)
        return asdict(cp.unpack_tree(root, b"/", fds[0]))


def mount_volume(args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Mount a volume on itself; arguments as :func:`cellbox.volumes.attach` has them."""
    volumes.attach(**args)
    return {}


def unmount_volume(args: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Take away what is mounted on the volume in ``directory``."""
    volumes.detach(args["directory"])
    return {}


JOBS: dict[str, Job] = {
    "apply": apply,
    "diff": changes,
    "pack": pack,
    "remove": remove,
    "usage": usage,
    "copy": copy,
    "overlay-probe": overlay_probe,
    "tree-pack": tree_pack,
    "tree-unpack": tree_unpack,
    "tree-stat": tree_stat,
    "layer-unpack": unpack_layer,
    "volume-fill": fill_volume,
    "volume-pack": pack_volume,
    "volume-unpack": unpack_volume,
    "volumes-layer": layer_volumes,
    "volume-mount": mount_volume,
    "volume-unmount": unmount_volume,
}
"""Every job of this room by its name; the function's docstring tells arguments and result."""
