"""``%load_ext cellbox`` once IPython is up, and ``cellbox --help`` beside an empty Python."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from timing import SOURCES, measure, report

LOAD = """
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
began = time.perf_counter()
shell.run_line_magic("load_ext", "cellbox")
print(time.perf_counter() - began)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(SOURCES)}

    def python(*words: str) -> str:
        return subprocess.run([sys.executable, *words], env=environment, check=True,
                              capture_output=True, text=True).stdout  # fmt: skip

    python("-c", LOAD)
    loads = [float(python("-c", LOAD)) for _ in range(rounds)]
    report({"%load_ext cellbox": loads}, "%load_ext cellbox")
    subjects = {
        "cellbox --help": lambda: python("-m", "cellbox_magics.command", "--help"),
        "python -c pass": lambda: python("-c", "pass"),
    }
    report(measure(rounds, subjects), "cellbox --help")


if __name__ == "__main__":
    main()
