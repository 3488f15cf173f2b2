"""One tree of commands for ``%container``, ``%%container`` and the ``cellbox`` command.

Words, flags, help texts and exit codes are Docker's. ``values``, ``mounts``, ``words`` and ``spec``
are pure: text in, facts out. ``flags`` holds the options of ``run``; ``programs``, ``lifecycle``,
``look``, ``files``, ``images`` and ``system`` hold the verbs, which ask a
:class:`~cellbox_magics.surface.Surface` for everything else. ``contents`` lists them all, and
``tree`` makes groups of them.
"""

from .place import Place
from .tree import tree

__all__ = ["Place", "tree"]
