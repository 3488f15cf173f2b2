"""The options of ``run``, ``create`` and ``exec``, with Docker's words and help texts.

Three lists: what this engine has, what Docker has and this engine does not (each with the sentence
that says so and what to do instead), and what only a notebook cell has. ``spec`` turns the values
into a :class:`~cellbox.model.container.RunSpec`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from .commands import complete_networks
from .place import Place

_ONE = (
    ("--cidfile", "Write the container ID to the file"),
    ("--cpu-period", "Limit CPU CFS (Completely Fair Scheduler) period"),
    ("--cpu-quota", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    ("-c/--cpu-shares", "CPU shares (relative weight)"),
    ("--cpus", "Number of CPUs"),
    ("--cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    ("--detach-keys", "Override the key sequence for detaching a container"),
    ("--domainname", "Container NIS domain name"),
    ("--entrypoint", "Overwrite the default ENTRYPOINT of the image"),
    ("--health-cmd", "Command to run to check health"),
    ("--health-interval", "Time between running the check (ms|s|m|h)"),
    ("--health-retries", "Consecutive failures needed to report unhealthy"),
    ("--health-start-interval", "Time between running the check during the start period"),
    ("--health-start-period", "Start period before the retries countdown starts"),
    ("--health-timeout", "Maximum time to allow one check to run"),
    ("-h/--hostname", "Container host name"),
    ("--ip", "IPv4 address (e.g., 172.30.100.104)"),
    ("--ip6", "IPv6 address (e.g., 2001:db8::33)"),
    ("--ipc", "IPC mode to use"),
    ("--log-driver", "Logging driver for the container"),
    ("--mac-address", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    ("-m/--memory", "Memory limit"),
    ("--memory-reservation", "Memory soft limit"),
    ("--memory-swap", "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
    ("--name", "Assign a name to the container"),
    ("--oom-score-adj", "Tune host's OOM preferences (-1000 to 1000)"),
    ("--pid", "PID namespace to use"),
    ("--pids-limit", "Tune container pids limit (set -1 for unlimited)"),
    ("--platform", "Set platform if server is multi-platform capable"),
    ("--restart", "Restart policy to apply when a container exits"),
    ("--shm-size", "Size of /dev/shm"),
    ("--stop-signal", "Signal to stop the container"),
    ("--stop-timeout", "Timeout (in seconds) to stop a container"),
    ("-u/--user", "Username or UID (format: <name|uid>[:<group|gid>])"),
    ("--userns", "User namespace to use (host, or a private one)"),
    ("--uts", "UTS namespace to use"),
    ("--volume-driver", "Optional volume driver for the container"),
    ("-w/--workdir", "Working directory inside the container"),
)
_MANY = (
    ("--add-host", "Add a custom host-to-IP mapping (host:ip)"),
    ("--annotation", "Add an annotation to the container"),
    ("--cap-add", "Add Linux capabilities"),
    ("--cap-drop", "Drop Linux capabilities"),
    ("--device", "Add a host device to the container"),
    ("--dns", "Set custom DNS servers"),
    ("--dns-option/--dns-opt", "Set DNS options"),
    ("--dns-search", "Set custom DNS search domains"),
    ("--egress", "Restrict what can be reached outside (none, dns:NAME, CIDR)"),
    ("-e/--env", "Set environment variables"),
    ("--env-file", "Read in a file of environment variables"),
    ("--expose", "Expose a port or a range of ports"),
    ("--group-add", "Add additional groups to join"),
    ("-l/--label", "Set meta data on a container"),
    ("--label-file", "Read in a line delimited file of labels"),
    ("--link", "Add link to another container"),
    ("--log-opt", "Log driver options"),
    ("--mount", "Attach a filesystem mount to the container"),
    ("--network-alias/--net-alias", "Add network-scoped alias for the container"),
    ("-p/--publish", "Publish a container's port(s) to the host"),
    ("--security-opt", "Security Options"),
    ("--sysctl", "Sysctl options"),
    ("--tmpfs", "Mount a tmpfs directory"),
    ("--ulimit", "Ulimit options"),
    ("-v/--volume", "Bind mount a volume, or a host directory"),
    ("--volumes-from", "Mount volumes from the specified container(s)"),
)
_FLAG = (
    ("--init", "Run an init inside the container that forwards signals and reaps processes"),
    ("--no-healthcheck", "Disable any container-specified HEALTHCHECK"),
    ("--privileged", "Give extended privileges to this container"),
    ("-P/--publish-all", "Publish all exposed ports to random ports"),
    ("-q/--quiet", "Suppress the pull output"),
    ("--read-only", "Mount the container's root filesystem as read only"),
    ("--rm", "Automatically remove the container when it exits"),
    ("-t/--tty", "Allocate a pseudo-TTY"),
)

_ADDRESSES = "is not in this engine: use --ip or --ip6"
_DEVICES = "is not in this engine: --device gives a container one device of the host"
_CGROUP = "is not in this engine: use --memory, --cpus, --cpu-shares, --cpuset-cpus or --pids-limit"
_MISSING: dict[str, tuple[str, ...]] = {
    _ADDRESSES: ("--link-local-ip",),
    _DEVICES: (
        "--device-cgroup-rule", "--device-read-bps", "--device-read-iops",
        "--device-write-bps", "--device-write-iops", "--gpus",
    ),
    _CGROUP: (
        "--blkio-weight", "--blkio-weight-device", "--cgroup-parent", "--cgroupns",
        "--cpu-rt-period", "--cpu-rt-runtime", "--cpuset-mems", "--kernel-memory",
        "--memory-swappiness", "--oom-kill-disable#",
    ),
    "is not in this engine: output and input are attached as -d and -i say": ("-a/--attach",),
    "is not in this engine: it has one runtime, its own": ("--runtime", "--isolation"),
    "is not in this engine: it limits no disk space": ("--storage-opt",),
    "is not in this engine: it has no daemon whose socket could be given away": (
        "--use-api-socket#",
    ),
}  # fmt: skip


def run_options(place: Place) -> list[click.Parameter]:
    """All options of ``run``; in a cell the body is the standard input, so that ``-i`` and ``-o``
    name variables there."""
    found = [
        *_create(),
        _flag("-d/--detach", "Run container in background and print container ID"),
        _sig_proxy(),
        *(variable_options() if place is Place.CELL else [_interactive()]),
        *notebook_options(place),
    ]
    return [*_sorted(found), *_refusals()]


def create_options() -> list[click.Parameter]:
    """All options of ``create``."""
    return [*_sorted([*_create(), _interactive()]), *_refusals()]


def exec_options(place: Place) -> list[click.Parameter]:
    """All options of ``exec``; a cell is its own standard input."""
    return [
        _flag("-d/--detach", "Detached mode: run command in the background"),
        _one("--detach-keys", "Override the key sequence for detaching a container"),
        _many("-e/--env", "Set environment variables"),
        _many("--env-file", "Read in a file of environment variables"),
        _flag("--privileged", "Give extended privileges to the command"),
        _flag("-t/--tty", "Allocate a pseudo-TTY"),
        _one("-u/--user", "Username or UID (format: <name|uid>[:<group|gid>])"),
        _one("-w/--workdir", "Working directory inside the container"),
        *([] if place is Place.CELL else [_interactive()]),
        *notebook_options(place)[:1],
    ]


def variable_options() -> list[click.Option]:
    """``-i`` and ``-o`` of a Python cell."""
    return [
        _many("inputs/-i/--in", "Give this variable of the notebook to the cell (NAME[,NAME])"),
        _many("outputs/-o/--out", "Bring this variable back to the notebook (NAME[,NAME])"),
    ]


def notebook_options(place: Place) -> list[click.Option]:
    """What a notebook adds to Docker's words."""
    if place is Place.COMMAND:
        return []
    return [
        _flag("--no-raise", "Return the exit code; a program's failure does not fail the cell"),
        _flag("--bg", "Run beside the notebook and return a handle to wait on"),
    ]


def _sorted(found: list[click.Option]) -> list[click.Option]:
    return sorted(found, key=lambda option: option.opts[-1])


def _create() -> list[click.Option]:
    pull = click.Option(
        ["--pull"],
        type=click.Choice(["always", "missing", "never"]),
        default="missing",
        help='Pull image before running ("always", "missing", "never")',
    )
    network = click.Option(
        ["--network", "--net"],
        multiple=True,
        metavar="VALUE",
        shell_complete=complete_networks,
        help="Connect a container to a network",
    )
    return [
        *(_one(names, text) for names, text in _ONE),
        *(_many(names, text) for names, text in _MANY),
        *(_flag(names, text) for names, text in _FLAG),
        network,
        pull,
    ]


def _interactive() -> click.Option:
    return _flag("-i/--interactive", "Keep STDIN open even if not attached")


def _sig_proxy() -> click.Option:
    return click.Option(
        ["--sig-proxy/--no-sig-proxy"],
        default=True,
        help="Proxy received signals to the process (default true)",
    )


def _one(names: str, text: str) -> click.Option:
    return click.Option(names.split("/"), help=text, metavar="VALUE")


def _many(names: str, text: str) -> click.Option:
    return click.Option(names.split("/"), help=text, multiple=True, metavar="VALUE")


def _flag(names: str, text: str) -> click.Option:
    return click.Option(names.split("/"), is_flag=True, help=text)


def _refusals() -> Iterator[click.Option]:
    for reason, flags in _MISSING.items():
        for names in flags:
            yield _refusal(names, reason)


def _refusal(names: str, reason: str) -> click.Option:
    spelled = names.removesuffix("#").split("/")
    shown = max(spelled, key=len)

    def refuse(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            raise click.UsageError(f"{shown} {reason}", context)

    return click.Option(
        spelled,
        is_flag=names.endswith("#"),
        multiple=not names.endswith("#"),
        hidden=True,
        expose_value=False,
        callback=refuse,
    )
