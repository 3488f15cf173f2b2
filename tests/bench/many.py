"""Two hundred containers at once: that they all run, and what starting and ending them takes."""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from timing import busybox, cellbox, store


def available() -> int:
    """MemAvailable in MiB."""
    text = Path("/proc/meminfo").read_text()
    return int(text.split("MemAvailable:")[1].split()[0]) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    count = parser.parse_args().count
    with store() as engine:
        shutil.rmtree(busybox(engine))
        spec = cellbox.RunSpec(
            image="busybox", command=("sleep", "10000"), detach=True, network="none"
        )
        free, began = available(), time.perf_counter()
        for _ in range(count):
            cellbox.run(engine, spec)
        started = time.perf_counter()
        running = len(engine.containers.list())
        print(f"{running} of {count} run; started in {started - began:.2f} s"
              f" ({(started - began) / count * 1e3:.1f} ms each),"
              f" {(free - available()) / count:.2f} MiB each")  # fmt: skip
        for container in engine.containers.list():
            engine.containers.remove(container.id, force=True)
        print(f"removed in {time.perf_counter() - started:.2f} s; left: "
              f"{len(engine.containers.list(all=True))}")  # fmt: skip


if __name__ == "__main__":
    main()
