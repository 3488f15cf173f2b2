"""cellbox: a container engine that lives in a notebook.

::

    import cellbox

    engine = cellbox.connect()                       # the embedded engine; no daemon
    print(cellbox.run(engine, cellbox.RunSpec(image="host", command=("id",))).output)

Names are imported when first used: the launcher, which outlives the engine, wants none of them, and
a notebook wants to be up at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellbox.api.tls import make_certificates as make_certificates
    from cellbox.connecting import connect as connect
    from cellbox.daemon import dial_stdio as dial_stdio
    from cellbox.daemon import docker_variables as docker_variables
    from cellbox.daemon import serve as serve
    from cellbox.engine import Engine as Engine
    from cellbox.engine import Stream as Stream
    from cellbox.errors import CellboxError as CellboxError
    from cellbox.handles import ContainerHandle as ContainerHandle
    from cellbox.handles import ImageHandle as ImageHandle
    from cellbox.handles import NetworkHandle as NetworkHandle
    from cellbox.handles import VolumeHandle as VolumeHandle
    from cellbox.handles import run as run
    from cellbox.model.container import Container as Container
    from cellbox.model.container import ExecSpec as ExecSpec
    from cellbox.model.container import Limits as Limits
    from cellbox.model.container import RunSpec as RunSpec
    from cellbox.model.image import Image as Image
    from cellbox.model.network import Network as Network
    from cellbox.model.network import NetworkSpec as NetworkSpec
    from cellbox.model.volume import Volume as Volume
    from cellbox.model.volume import VolumeSpec as VolumeSpec
    from cellbox.remote.contexts import check_context as check_context
    from cellbox.remote.contexts import contexts as contexts
    from cellbox.remote.contexts import current_context as current_context
    from cellbox.remote.contexts import use_context as use_context

__version__ = "0.1.0"

_HOMES = {
    "connect": "cellbox.connecting",
    "check_context": "cellbox.remote.contexts",
    "contexts": "cellbox.remote.contexts",
    "current_context": "cellbox.remote.contexts",
    "use_context": "cellbox.remote.contexts",
    "dial_stdio": "cellbox.daemon",
    "docker_variables": "cellbox.daemon",
    "make_certificates": "cellbox.api.tls",
    "serve": "cellbox.daemon",
    "Engine": "cellbox.engine",
    "Stream": "cellbox.engine",
    "CellboxError": "cellbox.errors",
    "ContainerHandle": "cellbox.handles",
    "ImageHandle": "cellbox.handles",
    "NetworkHandle": "cellbox.handles",
    "VolumeHandle": "cellbox.handles",
    "run": "cellbox.handles",
    "Container": "cellbox.model.container",
    "ExecSpec": "cellbox.model.container",
    "Limits": "cellbox.model.container",
    "RunSpec": "cellbox.model.container",
    "Image": "cellbox.model.image",
    "Network": "cellbox.model.network",
    "NetworkSpec": "cellbox.model.network",
    "Volume": "cellbox.model.volume",
    "VolumeSpec": "cellbox.model.volume",
}

__all__ = ["__version__", "load_ipython_extension", "unload_ipython_extension", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    """PEP 562: import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext cellbox``: the one look upwards, made when it is called."""
    from cellbox_magics import load_ipython_extension as load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext cellbox``."""
    from cellbox_magics import unload_ipython_extension as unload

    unload(shell)
