"""The memory that an idle detached container costs: PSS of its shim and its first process."""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from pathlib import Path

from timing import busybox, cellbox, store


def pss(pid: int) -> int:
    """Proportional set size in KiB (proc_pid_smaps_rollup)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50)
    count = parser.parse_args().count
    with store() as engine:
        shutil.rmtree(busybox(engine))
        spec = cellbox.RunSpec(
            image="busybox", command=("sleep", "10000"), detach=True, network="none"
        )
        for _ in range(count):
            cellbox.run(engine, spec)
        time.sleep(2)  # until what a start has left behind is let go
        pids = [container.pid for container in engine.containers.list()]
        shims = [pss(parent(pid)) for pid in pids]
        firsts = [pss(pid) for pid in pids]
        both = [shim + first for shim, first in zip(shims, firsts, strict=True)]
        for name, values in (("shim", shims), ("first process", firsts), ("both", both)):
            print(f"{name:<16} median {statistics.median(values) / 1024:6.2f} MiB"
                  f"   ({len(values)} containers)")  # fmt: skip


if __name__ == "__main__":
    main()
