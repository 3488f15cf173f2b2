"""The remote engine: the :class:`~cellbox.engine.Engine` contract over HTTP.

It speaks Docker's Engine API to a cellbox daemon or to a real ``dockerd``, over a unix socket, TCP
with or without TLS, or ssh. ``address`` says where, ``dial`` makes a connection, ``transport`` asks
and answers, ``exchange`` holds one connection for what goes on for long; the rest is the contract,
with the file names of ``local``. JSON becomes facts in :mod:`cellbox.wire` and nowhere else.
"""
