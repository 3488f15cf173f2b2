"""The embedded engine: the only place where stores and drivers meet.

``engine`` is the whole; ``images``, ``containers`` and ``files`` are its collections, over one
``store``: the state database, the content and layer stores, the launcher and the event log. ``gc``,
``check`` and ``doctor`` look after it.
"""
