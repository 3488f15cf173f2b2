"""``run --rm busybox true`` on the bridge network, beside the same without a network."""

from __future__ import annotations

import argparse
import shutil

from timing import busybox, measure, report, rest, run_true, store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    with store() as engine:
        shutil.rmtree(busybox(engine))
        subjects = {
            "--network none": lambda: run_true(engine),
            "--network bridge": lambda: run_true(engine, "bridge"),
        }
        for name, subject in subjects.items():  # alone: a reserve is made like the last one
            report({name: measure(rounds, {name: subject}, before=rest)[name]}, name)
        report(measure(rounds, subjects, before=rest), "--network none")


if __name__ == "__main__":
    main()
