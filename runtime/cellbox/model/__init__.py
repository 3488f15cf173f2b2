"""The nouns: frozen facts, no I/O, no behaviour beyond reading themselves.

``reference`` names of images; ``image`` what a registry or store holds; ``container`` what a user
asks for and what became of it; ``plugin`` what may be added; ``event`` what happened; ``system``
the machine and the store. Facts travel between processes as JSON through ``codec``.
"""
