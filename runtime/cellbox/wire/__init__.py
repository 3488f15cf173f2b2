"""Docker's shapes and ours: pure functions between the model and the Engine API's JSON, both ways.

``objects`` tells containers, images, networks and volumes as ``docker inspect`` does, ``requests``
what clients ask for; ``system``, ``events`` and ``stats`` the rest of what an engine says,
``streams`` how output travels, ``errors`` what went wrong, ``filters`` what a query holds.
"""
