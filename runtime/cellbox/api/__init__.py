"""The Docker Engine API, served over any :class:`~cellbox.engine.Engine`.

The room, from the socket up::

    listeners    where clients come in: a unix socket, or TCP with mutual TLS
    sockets      bytes to and from one client: not blocking, TLS or not, a word when it hangs up
    connection   HTTP/1.1 on it (h11 speaks, this drives): requests in, answers out, one thread
    guard        keeps web pages out
    http         what handlers see: Request, Response, Hijack
    routing      from method and path to a handler: ``@route("GET", "/containers/{id}/json")``
    server       Daemon (the engine, and what is the server's own), clients, an orderly stop

and above them a module of handlers for each kind of object: ``containers``, ``logs``, ``attach``
and ``execs`` (which carry streams with ``streams``, ``keys`` and ``websocket``), ``archive``,
``images``, ``networks``, ``volumes``, ``system``, ``events``, ...

A handler is ``def name(daemon, request) -> Response | Hijack``. It asks the engine, and puts facts
into Docker's shapes with :mod:`cellbox.wire`; an error of the engine's tree that it lets through
becomes Docker's status and ``{"message": ...}``. Nothing here knows which engine it serves.

Source: Docker Engine API 1.45, and moby's ``api/server`` for what the document leaves open.
"""
