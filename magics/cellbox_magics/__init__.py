"""The words of cellbox in a notebook and in a shell.

``%load_ext cellbox`` gives ``%container`` and ``%%container``; the ``cellbox`` command speaks the
same grammar. ``grammar`` turns words into requests and verbs; ``surface`` is the seam to the place
where they were said, ``notebook`` and ``terminal`` are the two places. Loading imports almost
nothing: the engine is connected to by the first command.
"""

from __future__ import annotations

from typing import Any


def load_ipython_extension(shell: Any) -> None:
    """Register the magics and the completer; loading again replaces them."""
    from .magics import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics and the completer away, and close the engine."""
    from .magics import unload

    unload(shell)
