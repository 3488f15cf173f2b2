"""``exec`` of true in a running container, beside ``run``."""

from __future__ import annotations

import argparse
import shutil

from timing import busybox, cellbox, measure, report, run_true, store


def exec_true(engine: cellbox.Engine) -> None:
    """One program in the container ``web``."""
    with engine.containers.exec("web", cellbox.ExecSpec(("true",))) as stream:
        assert list(stream) == []
        assert stream.wait() == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    with store() as engine:
        shutil.rmtree(busybox(engine))
        spec = cellbox.RunSpec(
            image="busybox", command=("sleep", "10000"), detach=True, network="none"
        )
        cellbox.run(engine, spec, name="web")
        subjects = {"exec": lambda: exec_true(engine), "run": lambda: run_true(engine)}
        report(measure(parser.parse_args().rounds, subjects), "exec")


if __name__ == "__main__":
    main()
