"""``run --rm busybox true`` from a library process, beside bubblewrap and docker.

Every run begins at rest; ``--busy`` times them one right after the other.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from functools import partial
from pathlib import Path

from timing import busybox, dockerd, measure, report, rest, run_true, store


def bwrap(tree: Path) -> None:
    """All namespaces of bubblewrap, and the same program."""
    subprocess.run(
        ["bwrap", "--unshare-all", "--bind", str(tree), "/", "--proc", "/proc", "--dev", "/dev",
         "/bin/true"], check=True,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--busy", action="store_true")
    wanted = parser.parse_args()
    timed = partial(measure, wanted.rounds, before=(lambda: None) if wanted.busy else rest)
    with store() as engine, dockerd() as docker:
        tree = busybox(engine)
        subjects = {"cellbox run": lambda: run_true(engine)}
        if shutil.which("bwrap"):
            subjects["bwrap --unshare-all"] = lambda: bwrap(tree)
        report(timed(subjects), "cellbox run")
        if docker is not None:
            words = [*docker, "run", "--rm", "--network", "none", "busybox", "/bin/true"]
            tar = subprocess.run(["tar", "-C", str(tree), "-c", "."], capture_output=True).stdout
            subprocess.run([*docker, "import", "-", "busybox"], input=tar, check=True,
                           capture_output=True)  # fmt: skip
            subjects = {"cellbox run": subjects["cellbox run"],
                        "docker run": lambda: subprocess.run(words, check=True)}  # fmt: skip
            report(timed(subjects), "cellbox run")
        shutil.rmtree(tree)


if __name__ == "__main__":
    main()
