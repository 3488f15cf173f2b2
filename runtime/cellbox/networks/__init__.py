"""Networks: how containers reach each other, and the rest.

A **network** of the driver ``bridge`` is a bridge of the kernel, some **subnets** and rules. A
container's place in it is an **endpoint**; in the kernel that is a **plug**, a cable (veth) from
the container's network namespace to the bridge, with addresses at the container's end. Facts about
them are :mod:`cellbox.model.network`; what of them a container's start needs travels in its bundle
(``wiring``).

Which addresses there are is decided by ``ipam`` (pure), with the engine's database; what may go
where is a table of nftables that is made anew as a whole from facts (``firewall``, whose rules are
text made by pure functions; ``nft``, ``forwarding``).

One process per store, the **keeper**, holds what this takes and does it, for whoever asks by
``client``. As root it works in the host's network namespace. A user without rights has the store's
bridges in a namespace of its own, kept by a **holder** with a way out (``rootless``).

::

    engine -- client --(network.sock)--> keeper -- links, plug --> bridges, cables (rtnetlink)
    starter -- client ----------^           |----- firewall, nft -> rules (nftables)
                                            '----- rootless ------> holder --> pasta

Two things belong to a container and are done by processes of its shim: ports of the host that lead
to it (``ports``, ``proxy``), and answers to its questions for names at 127.0.0.11 (``names``,
``dns``, ``resolver``).
"""
