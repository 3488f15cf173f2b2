"""Pulling and unpacking a large image (Debian, Python, numpy, pandas; four layers, about 400 MB)
from a registry on loopback, with gzip and with zstd layers, beside ``docker pull``.

The image is made once, by mmdebstrap and pip, and kept in ``--cache``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

from timing import disk, dockerd, measure, report, store

SUITE = "bookworm"
PYTHON = "python3,python3-dateutil,python3-tz"
NEEDED = ("mmdebstrap", "docker-registry", "skopeo")


def layers(cache: Path) -> list[Path]:
    """The four layers, as tars."""
    made = [cache / f"{name}.tar" for name in ("debian", "python", "numpy", "pandas")]
    if all(path.exists() for path in made):
        return made
    cache.mkdir(parents=True, exist_ok=True)
    _sh("mmdebstrap", "--variant=minbase", SUITE, str(made[0]))
    full = cache / "full.tar"
    _sh("mmdebstrap", "--variant=minbase", f"--include={PYTHON}", SUITE, str(full))
    _difference(made[1], full, made[0])
    full.unlink()
    for path, package in ((made[2], "numpy"), (made[3], "pandas")):
        target = cache / package
        # pandas finds numpy in the layer below.
        only = ("--no-deps",) if package == "pandas" else ()
        _sh(sys.executable, "-m", "pip", "install", "-q", *only, "--target", str(target), package)
        with tarfile.open(path, "w") as out:
            out.add(target, "usr/lib/python3/dist-packages")
        shutil.rmtree(target)
    return made


def _difference(layer: Path, full: Path, below: Path) -> None:
    """What ``full`` has more than ``below``."""
    with tarfile.open(below) as lower:
        known = {(one.name, one.size, one.linkname) for one in lower}
    with tarfile.open(full) as upper, tarfile.open(layer, "w") as out:
        for one in upper:
            if one.isdir() or (one.name, one.size, one.linkname) not in known:
                out.addfile(one, upper.extractfile(one) if one.isreg() else None)


def _sh(*words: str) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def archive(cache: Path) -> Path:
    """A docker-archive of the image."""
    path = cache / "image.tar"
    if path.exists():
        return path
    tars = layers(cache)
    ids = ["sha256:" + hashlib.sha256(tar.read_bytes()).hexdigest() for tar in tars]
    config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["python3"]},
              "rootfs": {"type": "layers", "diff_ids": ids}}  # fmt: skip
    manifest = [{"Config": "config.json", "RepoTags": ["large:latest"],
                 "Layers": [tar.name for tar in tars]}]  # fmt: skip
    with tarfile.open(path, "w") as out:
        for name, document in (("config.json", config), ("manifest.json", manifest)):
            data = json.dumps(document).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, BytesIO(data))
        for tar in tars:
            out.add(tar, tar.name)
    return path


def serve(folder: Path, image: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A registry that holds the image as ``large:gzip`` and ``large:zstd``."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
    settings = {"version": "0.1", "log": {"level": "error"}, "http": {"addr": address},
                "storage": {"filesystem": {"rootdirectory": str(folder)}}}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yml").write_text(json.dumps(settings))
    server = subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    time.sleep(1)
    for kind in ("gzip", "zstd"):
        _sh("skopeo", "copy", "-q", "--format=oci", "--dest-tls-verify=false",
            f"--dest-compress-format={kind}", "--dest-compress", f"docker-archive:{image}",
            f"docker://{address}/large:{kind}")  # fmt: skip
    return server, address


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--cache", type=Path, default=Path("/var/tmp/cellbox-bench"))
    given = parser.parse_args()
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        sys.exit(f"needs {', '.join(missing)}")
    server, address = serve(given.cache / "registry", archive(given.cache))
    try:
        times: dict[str, list[float]] = {}
        for number in range(given.rounds):
            for title, seconds in one_round(address, number).items():
                times.setdefault(title, []).extend(seconds)
        report(dict(sorted(times.items())), "cellbox pull (gzip)")
    finally:
        server.kill()
        server.wait()


def one_round(address: str, number: int) -> dict[str, list[float]]:
    """Each pull once, into stores on a new disk, so that none finds what another one had fetched,
    nor has to search between inodes that were just freed. They take turns at being the first."""
    with contextlib.ExitStack() as undo:
        place = undo.enter_context(disk(12))
        subjects: dict[str, Callable[[], object]] = {}
        for kind in ("gzip", "zstd"):
            engine = undo.enter_context(store(place))
            ours = partial(engine.images.pull, f"{address}/large:{kind}")
            subjects[f"cellbox pull ({kind})"] = ours
        docker = undo.enter_context(dockerd("--insecure-registry", address, place=place))
        if docker is not None:
            words = [*docker, "pull", "-q", f"{address}/large:gzip"]
            theirs = partial(subprocess.run, words, check=True, stdout=subprocess.DEVNULL)
            subjects["docker pull (gzip)"] = theirs
        turn = list(subjects.items())
        turn = turn[number % len(turn) :] + turn[: number % len(turn)]
        # What one has left to be written is not to be waited for by the next.
        return {
            title: measure(1, {title: pull}, warm=0, before=os.sync)[title] for title, pull in turn
        }


if __name__ == "__main__":
    main()
