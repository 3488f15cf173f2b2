"""Drivers that are other programs, spoken to by Docker's plugin protocol.

Such a program listens on a socket, and a file in a folder that everybody knows says where
(``places``). A call is one POST with JSON both ways (``client``); the first one,
``/Plugin.Activate``, is answered with what the program implements, and is made when the program is
first needed (``finder``). What each interface says stands in ``volumes`` and
``authorization``.

A program of this kind is a stranger: every call has a bound in time and size, and what it answers
is looked at before it is used.

Source: docs.docker.com/engine/extend/plugin_api, plugins_volume,
plugins_authorization; moby ``pkg/plugins``.
"""
