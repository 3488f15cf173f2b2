"""Containers as processes: what is asked of the launcher, and who does it.

``spec`` derives a :class:`~cellbox.containers.messages.Bundle` from a request and an image (pure).
``client`` speaks to the ``launcher``, one process per store, which forks a ``shim`` per container;
the shim clones ``init`` into new namespaces and is its parent, log writer, attach server, health
checker and keeper of its exit record. ``messages`` is all they say to each other (pure).

::

    engine -- client --(launcher.sock)--> launcher --fork--> worker   one job on layers or files
                                              '-----fork--> shim --clone3--> init --exec--> program
    engine -- client --(CONTAINER/shim.sock)-----------------^
"""
