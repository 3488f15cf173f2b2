"""A thousand ``run --rm`` in a row: the last hundred as fast as the first, and nothing is left."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from timing import busybox, measure, report, rest, run_true, store

from cellbox.linux import cgroups


def leftovers(root: Path) -> dict[str, int]:
    """What is counted before and after: folders, rows of mounts, processes."""
    return {
        "container folders": len(list((root / "containers").glob("*"))),
        "mounts": len(Path("/proc/self/mounts").read_text().splitlines()),
        "cgroups": len(cgroups.leftovers()),
        "processes": len(list(Path("/proc").glob("[0-9]*"))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    rounds = parser.parse_args().rounds
    with store() as engine:
        shutil.rmtree(busybox(engine))
        root = Path(os.environ["CELLBOX_ROOT"])
        run_true(engine)
        rest()
        before = leftovers(root)
        times = measure(rounds, {"run": lambda: run_true(engine)})["run"]
        part = max(1, rounds // 10)
        report({"the first tenth": times[:part], "the last tenth": times[-part:]},
               "the first tenth")  # fmt: skip
        rest()  # the last one of all is being cleaned up after
        after = leftovers(root)
        for name, count in before.items():
            print(f"{name:<20} before {count:5}   after {after[name]:5}")
        print("damage:", engine.check())


if __name__ == "__main__":
    main()
