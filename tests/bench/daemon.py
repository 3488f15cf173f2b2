"""The daemon beside dockerd, with the same docker command line: runs, execs, many at once, attach,
ps of many, followers, and what the daemon itself takes."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from timing import SOURCES, busybox, dockerd, measure, report, rest, store

Docker = list[str]
BYTES = 400_000_000


@contextlib.contextmanager
def served() -> Iterator[tuple[Docker, int, Path]]:
    """``docker`` with the options that lead to a daemon over the store of now; its pid and its
    socket."""
    path = Path(os.environ["CELLBOX_ROOT"]).with_suffix(".sock")
    words = [sys.executable, "-m", "cellbox_magics.command", "serve", "-H", f"unix://{path}"]
    environment = {**os.environ, "PYTHONPATH": ":".join(SOURCES)}
    daemon = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    try:
        docker = ["docker", "-H", f"unix://{path}"]
        deadline = time.monotonic() + 20
        while subprocess.run([*docker, "version"], capture_output=True).returncode:
            assert time.monotonic() < deadline, "the daemon did not start"
            time.sleep(0.05)
        yield docker, daemon.pid, path
    finally:
        daemon.terminate()
        daemon.wait(30)


def call(docker: Docker, *words: str) -> str:
    """What a command writes; it must go well."""
    return subprocess.run([*docker, *words], check=True, capture_output=True, text=True).stdout


def runs(docker: Docker, *words: str) -> Callable[[], str]:
    """A command to be timed."""
    return lambda: call(docker, *words)


def throughput(docker: Docker, count: int) -> float:
    """Runs a second, with ``count`` at once."""
    run = runs(docker, "run", "--rm", "--network", "none", "busybox", "true")
    began = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda _: run(), range(count)))
    return count / (time.perf_counter() - began)


def attached(docker: Docker, log: str) -> float:
    """Megabytes a second through ``docker run``."""
    words = ["run", "--rm", "--network", "none", "--log-driver", log, "busybox"]
    began = time.perf_counter()
    subprocess.run([*docker, *words, "busybox", "head", "-c", str(BYTES), "/dev/zero"], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    return BYTES / (time.perf_counter() - began) / 1e6


def pings(path: Path, count: int = 500) -> float:
    """Milliseconds that HEAD /_ping takes, over one connection."""
    times = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        for _ in range(count):
            began = time.perf_counter()
            connection.sendall(b"HEAD /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
            while not connection.recv(65536).endswith(b"\r\n\r\n"):
                pass
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def resident(pid: int) -> float:
    """MiB of a process's own memory."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if "Private" in line) / 1024


@contextlib.contextmanager
def followers(path: Path, target: str, count: int) -> Iterator[list[socket.socket]]:
    """So many clients that follow ``target``, each told that it may."""
    with contextlib.ExitStack() as undo:
        found = []
        for _ in range(count):
            one = undo.enter_context(socket.socket(socket.AF_UNIX))
            one.connect(str(path))
            one.sendall(f"GET {target} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
            found.append(one)
        for one in found:
            assert one.recv(15).startswith(b"HTTP/1.1 200")
        yield found


def single(docker: Docker, peer: Docker | None, rounds: int) -> None:
    """One at a time: run, exec."""
    plain = ("run", "--rm", "--network", "none", "busybox", "true")
    for name, words in (("run", plain), ("exec", ("exec", "web", "true"))):
        subjects = {f"cellbox: docker {name}": runs(docker, *words)}
        if peer:
            subjects[f"dockerd: docker {name}"] = runs(peer, *words)
        report(measure(rounds, subjects, before=rest), f"cellbox: docker {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    with contextlib.ExitStack() as undo:
        engine = undo.enter_context(store())
        tree = busybox(engine)
        docker, pid, path = undo.enter_context(served())
        peer = undo.enter_context(dockerd())
        if peer:
            tar = subprocess.run(["tar", "-C", str(tree), "-c", "."], capture_output=True).stdout
            subprocess.run([*peer, "import", "-", "busybox"], input=tar, check=True,
                           capture_output=True)  # fmt: skip
        shutil.rmtree(tree)
        both = [("cellbox", docker), *([("dockerd", peer)] if peer else [])]
        for _, one in both:
            call(one, "run", "-d", "--name", "web", "--network", "none", "busybox", "sleep", "9999")
        single(docker, peer, rounds)
        for name, one in both:
            rates = [throughput(one, 50) for _ in range(3)]
            print(f"{name}: 50 at once   {statistics.median(rates):7.1f} runs a second")
            for log in ("none", "json-file"):
                speeds = [attached(one, log) for _ in range(3)]
                print(f"{name}: attach, log {log:<10} {statistics.median(speeds):7.0f} MB/s")
        print(f"cellbox: HEAD /_ping  {pings(path):.3f} ms")
        for _ in range(199):
            call(docker, "run", "-d", "--network", "none", "busybox", "sleep", "9999")
        print(f"cellbox: the daemon with 200 containers  {resident(pid):.0f} MiB")
        for _ in range(300):
            call(docker, "create", "--network", "none", "busybox", "true")
        report(measure(10, {"cellbox: ps of 500": runs(docker, "ps", "-aq")}), "cellbox: ps of 500")
        for target in ("/containers/web/logs?follow=1&stdout=1", "/events"):
            with followers(path, target, 1000):
                taken = measure(10, {f"run beside 1000 of {target}": runs(docker, "ps", "-q")})
                report(taken, f"run beside 1000 of {target}")
                print(f"  the daemon takes {resident(pid):.0f} MiB")


if __name__ == "__main__":
    main()
