"""Pulling and unpacking a large image (Debian, Python, numpy, pandas; four layers, about 400 MB)
from a registry on loopback, with gzip and with zstd layers, beside ``docker pull``.

The image is made once, by mmdebstrap and pip, and kept in ``--cache``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from io import BytesIO
from pathlib import Path

from timing import cellbox, dockerd, measure, report, store

SUITE = "bookworm"
NEEDED = ("mmdebstrap", "docker-registry", "skopeo")


def layers(cache: Path) -> list[Path]:
    """The four layers, as tars."""
    made = [cache / f"{name}.tar" for name in ("debian", "python", "numpy", "pandas")]
    if all(path.exists() for path in made):
        return made
    cache.mkdir(parents=True, exist_ok=True)
    _sh("mmdebstrap", "--variant=minbase", SUITE, str(made[0]))
    full = cache / "full"
    _sh("mmdebstrap", "--variant=minbase", "--include=python3,python3-pip,perl", SUITE, str(full))
    _tar(made[1], full / "usr", "usr")
    for path, package in ((made[2], "numpy"), (made[3], "pandas")):
        target = cache / package
        _sh(sys.executable, "-m", "pip", "install", "-q", "--target", str(target), package)
        _tar(path, target, f"opt/{package}")
        shutil.rmtree(target)
    shutil.rmtree(full)
    return made


def _sh(*words: str) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def _tar(path: Path, source: Path, name: str) -> None:
    with tarfile.open(path, "w") as out:
        out.add(source, name)


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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path("/var/tmp/cellbox-bench"))
    given = parser.parse_args()
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        sys.exit(f"needs {', '.join(missing)}")
    server, address = serve(given.cache / "registry", archive(given.cache))
    try:
        with store() as engine, dockerd("--insecure-registry", address) as docker:
            for kind in ("gzip", "zstd"):
                compare(engine, docker, f"{address}/large:{kind}", given.rounds)
    finally:
        server.kill()
        server.wait()


def compare(engine: cellbox.Engine, docker: list[str] | None, image: str, rounds: int) -> None:
    """Pull, then remove outside of what is timed, in turn."""

    def ours() -> None:
        engine.images.pull(image)

    def theirs() -> None:
        assert docker is not None
        subprocess.run([*docker, "pull", "-q", image], check=True, capture_output=True)

    name = f"cellbox pull ({image.rpartition(':')[2]})"
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for title, pull in ((name, ours), ("docker pull", theirs)):
            if pull is theirs and docker is None:
                continue
            times.setdefault(title, []).extend(measure(1, {title: pull}, warm=0)[title])
        engine.images.remove(image, force=True)
        if docker is not None:
            subprocess.run([*docker, "rmi", image], check=True, capture_output=True)
    report(times, name)


if __name__ == "__main__":
    main()
