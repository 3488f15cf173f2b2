"""Building images: a Dockerfile and its context to an image.

Text becomes nodes (``parser``, with ``forms``, ``heredocs``, ``shell``), nodes become instructions
(``syntax``, ``instructions``), these the stages of a graph (``graph``, ``scope``): all that is
pure. ``solver`` does what the graph says, with the collections of an engine (``workshop``).
"""
