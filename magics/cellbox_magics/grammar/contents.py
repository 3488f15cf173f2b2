"""The table of contents: every command, the module that holds it, and the line that ``--help``
shows.

The only place where a command's summary stands. ``--help`` and a line that names one verb need no
other module than that verb's, which is why the front ends start fast.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """Where a command is: ``module`` of this package, and its ``attribute`` there."""

    module: str
    attribute: str
    summary: str


ENTRIES = {
    "run": Entry("programs", "run", "Create and run a new container from an image"),
    "exec": Entry("programs", "exec_", "Execute a command in a running container"),
    "create": Entry("programs", "create", "Create a new container"),
    "start": Entry("programs", "start", "Start one or more stopped containers"),
    "attach": Entry("programs", "attach", "Attach input and output to a running container"),
    "stop": Entry("lifecycle", "stop", "Stop one or more running containers"),
    "restart": Entry("lifecycle", "restart", "Restart one or more containers"),
    "kill": Entry("lifecycle", "kill", "Kill one or more running containers"),
    "pause": Entry("lifecycle", "pause", "Pause all processes within one or more containers"),
    "unpause": Entry("lifecycle", "unpause", "Unpause all processes within containers"),
    "wait": Entry("lifecycle", "wait", "Block until containers stop, then print their exit codes"),
    "rm": Entry("lifecycle", "rm", "Remove one or more containers"),
    "rename": Entry("lifecycle", "rename", "Rename a container"),
    "move": Entry("lifecycle", "move", "Move containers to another engine, with all they have"),
    "update": Entry("lifecycle", "update", "Update configuration of one or more containers"),
    "ps": Entry("look", "ps", "List containers"),
    "logs": Entry("look", "logs", "Fetch the logs of a container"),
    "inspect": Entry("look", "inspect", "Return low-level information on named objects"),
    "top": Entry("look", "top", "Display the running processes of a container"),
    "stats": Entry("look", "stats", "Display a live stream of resource usage statistics"),
    "port": Entry("look", "port", "List port mappings of a container"),
    "diff": Entry("look", "diff", "Inspect changes to files on a container's filesystem"),
    "cp": Entry("files", "cp", "Copy files between a container and the local filesystem"),
    "export": Entry("files", "export", "Export a container's filesystem as a tar archive"),
    "commit": Entry("images", "commit", "Create a new image from a container's changes"),
    "build": Entry("build", "build", "Build an image from a Dockerfile"),
    "images": Entry("images", "images", "List images"),
    "pull": Entry("images", "pull", "Download an image from a registry"),
    "push": Entry("images", "push", "Upload an image to a registry"),
    "rmi": Entry("images", "rmi", "Remove one or more images"),
    "tag": Entry("images", "tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
    "history": Entry("images", "history", "Show the history of an image"),
    "save": Entry("images", "save", "Save one or more images to a tar archive"),
    "load": Entry("images", "load", "Load an image from a tar archive or STDIN"),
    "import": Entry("images", "import_", "Make an image from a tarball of a filesystem"),
    "events": Entry("look", "events", "Get real time events from the engine"),
    "info": Entry("system", "info", "Display system-wide information"),
    "version": Entry("system", "version", "Show the version information"),
    "doctor": Entry("system", "doctor", "Say what this machine can do, and what would change it"),
    "container prune": Entry("lifecycle", "prune", "Remove all stopped containers"),
    "image inspect": Entry("images", "inspect", "Display detailed information on images"),
    "image prune": Entry("images", "prune", "Remove unused images"),
    "network create": Entry("networks", "create", "Create a network"),
    "network ls": Entry("networks", "ls", "List networks"),
    "network inspect": Entry("networks", "inspect", "Display detailed information on networks"),
    "network rm": Entry("networks", "rm", "Remove one or more networks"),
    "network connect": Entry("networks", "connect", "Connect a container to a network"),
    "network disconnect": Entry("networks", "disconnect", "Disconnect a container from a network"),
    "network prune": Entry("networks", "prune", "Remove all unused networks"),
    "volume create": Entry("volumes", "create", "Create a volume"),
    "volume ls": Entry("volumes", "ls", "List volumes"),
    "volume inspect": Entry("volumes", "inspect", "Display detailed information on volumes"),
    "volume rm": Entry("volumes", "rm", "Remove one or more volumes"),
    "volume rename": Entry("volumes", "rename", "Rename a volume"),
    "volume prune": Entry("volumes", "prune", "Remove unused volumes"),
    "plugin create": Entry("plugins", "create", "Create a plugin from a rootfs and configuration"),
    "plugin disable": Entry("plugins", "disable", "Disable a plugin"),
    "plugin enable": Entry("plugins", "enable", "Enable a plugin"),
    "plugin inspect": Entry("plugins", "inspect", "Display detailed information on plugins"),
    "plugin install": Entry("plugins", "install", "Install a plugin"),
    "plugin ls": Entry("plugins", "ls", "List plugins"),
    "plugin rm": Entry("plugins", "rm", "Remove one or more plugins"),
    "plugin set": Entry("plugins", "set_", "Change settings for a plugin"),
    "plugin upgrade": Entry("plugins", "upgrade", "Upgrade an existing plugin"),
    "context ls": Entry("contexts", "ls", "List contexts"),
    "context use": Entry("contexts", "use", "Set the current context"),
    "context show": Entry("contexts", "show", "Print the name of the current context"),
    "serve": Entry("daemon", "serve", "Serve the engine to Docker's clients"),
    "tls init": Entry("daemon", "tls_init", "Make certificates for a daemon and its clients"),
    "system dial-stdio": Entry(
        "daemon", "dial_stdio", "Connect standard input and output with the daemon"
    ),
    "builder prune": Entry("build", "prune", "Remove the caches of builds"),
    "system df": Entry("system", "df", "Show disk usage"),
    "system check": Entry("system", "check", "Look through the whole store for damage"),
    "system prune": Entry("system", "prune", "Remove unused containers, networks and images"),
}

_ON_CONTAINERS = (
    *("run", "exec", "create", "start", "attach", "stop", "restart", "kill", "pause", "unpause"),
    *("wait", "rm", "rename", "move", "update", "ps", "logs", "inspect", "top", "stats", "port"),
    *("diff", "cp", "export", "commit"),
)
_ON_IMAGES = ("build", "pull", "push", "tag", "history", "save", "load", "import")

ROOT = {
    name: name
    for name in (
        *_ON_CONTAINERS,
        *("images", "rmi", *_ON_IMAGES, "events", "info", "version", "doctor"),
    )
}
"""What stands at the top of the tree: the visible name, and the key of :data:`ENTRIES`."""

CELL = {"run": "run", "exec": "exec"}
"""What can do something with the body of a cell."""

CONTAINER = {**{name: name for name in _ON_CONTAINERS}, "prune": "container prune"}
IMAGE = {
    "ls": "images",
    "rm": "rmi",
    **{name: name for name in _ON_IMAGES},
    "inspect": "image inspect",
    "prune": "image prune",
}
_ON_NETWORKS = ("create", "ls", "inspect", "rm", "connect", "disconnect", "prune")
NETWORK = {name: f"network {name}" for name in _ON_NETWORKS}
_ON_PLUGINS = "create disable enable inspect install ls rm set upgrade".split()
PLUGIN = {name: f"plugin {name}" for name in _ON_PLUGINS}
CONTEXT = {name: f"context {name}" for name in ("ls", "use", "show")}
VOLUME = {name: f"volume {name}" for name in ("create", "ls", "inspect", "rm", "rename", "prune")}
BUILDER = {"prune": "builder prune"}
SYSTEM = {
    "df": "system df",
    "check": "system check",
    "prune": "system prune",
    "info": "info",
    "events": "events",
}

SHELL = {"serve": "serve"}
"""What stands at the top in a shell only."""

SHELL_SYSTEM = {"dial-stdio": "system dial-stdio"}
TLS = {"init": "tls init"}
