"""Named points at which a test can make the engine die or fail.

``CELLBOX_FAULT=pull.blob.renamed:kill`` in the environment makes the process that reaches this
point kill itself (SIGKILL, so nothing is tidied up); ``name:enospc`` raises OSError(ENOSPC) there;
``name:hang`` stops the process (SIGSTOP). Without the variable a point costs one look at a global.
``POINTS`` lists them all, so that a test can loop over every one; naming an unlisted one is a bug.
"""

from __future__ import annotations

import errno
import os
import signal

POINTS: dict[str, str] = {}
"""Every point, with what has just happened when it is reached. Filled by :func:`declare`."""

_name, _, _action = os.environ.get("CELLBOX_FAULT", "").partition(":")


def declare(**points: str) -> None:
    """Register points at import; double underscores in a keyword stand for dots."""
    POINTS.update({name.replace("__", "."): what for name, what in points.items()})


def point(name: str) -> None:
    """A fault may strike here."""
    if _name and name == _name:
        _strike(name)


def _strike(name: str) -> None:
    if name not in POINTS:
        raise KeyError(f"fault point {name} is not declared")
    if _action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif _action == "hang":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif _action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
