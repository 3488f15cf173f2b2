"""A layer: from a compressed stream into a directory of its own, and back into a tar.

:func:`apply` decompresses, hashes and extracts in one pass. The digest of the uncompressed tar is
the layer's diff id and its identity; it is known only at the end, so the caller keeps the directory
aside until then. :func:`pack` is the other direction and gives the same bytes for the same tree.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cellbox.errors import IntegrityError, InvalidArgument
from cellbox.images import tar
from cellbox.images.compression import Input, Reader, decompress
from cellbox.images.diff import copy_changes
from cellbox.images.extract import Extractor, Outcome, Whiteouts
from cellbox.images.pack import Options, Packer
from cellbox.images.trees import open_inside

_BUFFER = 1 << 18
_FAULTS_OF_THE_ARCHIVE = frozenset(
    {errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EXDEV, errno.EMLINK}
)


@dataclass(frozen=True)
class Limits:
    """What a layer may cost: bytes of its tar and of its files (a hole counts as if it were data),
    entries, and how many times larger than its stream the tar may be, beyond ``ratio_from``."""

    size: int = 1 << 36
    entries: int = 2_000_000
    ratio: int = 500
    ratio_from: int = 1 << 30


@dataclass(frozen=True)
class Applied:
    """What :func:`apply` made; ``tar_size`` are the bytes of the uncompressed tar."""

    diff_id: str
    tar_size: int
    outcome: Outcome


class _Meter:
    """Hashes and counts the uncompressed blocks on their way to the tar reader."""

    def __init__(self, source: Input, limits: Limits, algorithm: str) -> None:
        self._source = source
        self._limits = limits
        self._hasher = hashlib.new(algorithm)
        self._algorithm = algorithm
        self.size = 0

    @property
    def digest(self) -> str:
        return f"{self._algorithm}:{self._hasher.hexdigest()}"

    def blocks(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        limits = self._limits
        for block in blocks:
            self.size += len(block)
            if self.size > limits.size:
                raise InvalidArgument(f"the layer is larger than {limits.size} bytes")
            if self.size > max(limits.ratio_from, limits.ratio * self._source.count):
                raise InvalidArgument("the layer's stream unpacks to suspiciously much")
            self._hasher.update(block)
            yield block


def apply(
    stream: Reader,
    root: int,
    *,
    diff_id: str = "",
    limits: Limits | None = None,
    whiteouts: Whiteouts = Whiteouts.OVERLAY,
) -> Applied:
    """Extract the layer that ``stream`` gives into the empty directory ``root``.

    With ``diff_id``, raises IntegrityError at the end when the tar is another one; the directory
    then holds what must not be used. Raises InvalidArgument for a damaged or hostile stream, and
    OSError where the machine fails (no space, no permission).
    """
    limits = limits or Limits()
    source = Input(stream)
    meter = _Meter(source, limits, diff_id.partition(":")[0] or "sha256")
    blocks = tar.Stream(meter.blocks(decompress(source)))
    with Extractor(root, whiteouts=whiteouts) as extractor:
        outcome = extract_all(blocks, extractor, limits)
    if diff_id and meter.digest != diff_id:
        raise IntegrityError("the layer's content", diff_id, meter.digest)
    return Applied(meter.digest, meter.size, outcome)


def extract_all(stream: tar.Stream, extractor: Extractor, limits: Limits) -> Outcome:
    """Put all entries of ``stream`` there, and read it to its end. Raises as :func:`apply`."""
    try:
        for entry in tar.read(stream):
            if extractor.outcome.entries >= limits.entries:
                raise InvalidArgument(f"the archive has more than {limits.entries} entries")
            if extractor.outcome.size + entry.size > limits.size:
                raise InvalidArgument(f"the archive's files have more than {limits.size} bytes")
            extractor.add(entry, stream)
        stream.drain()
        return extractor.finish()
    except OSError as error:
        if error.errno in _FAULTS_OF_THE_ARCHIVE:
            raise InvalidArgument(f"the archive cannot be unpacked: {error}") from error
        raise


def pack(
    root: int, out: int, *, lowers: Sequence[int] = (), options: Options | None = None
) -> tuple[str, int]:
    """Write the layer in the directory ``root`` to the descriptor ``out``: diff id, bytes of tar.

    Without ``lowers``, ``root`` is an overlay's upper directory or a layer's own. With them it is
    a plain copy of these layers (topmost first) that was changed; the layer is what differs.
    """
    options = options or Options(overlay=True)
    if not lowers:
        return write(Packer(root, options).tree(), out)
    return write(_changed_blocks(root, lowers, options), out)


def _changed_blocks(root: int, lowers: Sequence[int], options: Options) -> Iterator[bytes]:
    packer = Packer(root, options)
    for path, kind in copy_changes(root, lowers).items():
        if options.leaves_out(path):
            continue
        if kind == "D":
            yield packer.whiteout(path)
            continue
        fd = open_inside(root, path, os.O_PATH)
        facts = os.fstat(fd)
        os.close(fd)
        yield from packer.entry(path, facts)
    yield bytes(2 * tar.BLOCK)


def write(blocks: Iterable[bytes], out: int) -> tuple[str, int]:
    """Write ``blocks`` to ``out`` in large pieces; their sha256 digest and size."""
    hasher, size = hashlib.sha256(), 0
    buffer = bytearray()
    for block in blocks:
        buffer += block
        if len(buffer) >= _BUFFER:
            size += len(buffer)
            hasher.update(buffer)
            tar.write_all(out, buffer)
            buffer = bytearray()
    hasher.update(buffer)
    tar.write_all(out, buffer)
    return "sha256:" + hasher.hexdigest(), size + len(buffer)


def copy(lowers: Sequence[int], target: int) -> Outcome:
    """Lay ``lowers`` (topmost first) over each other as plain files in the directory ``target``."""
    total = Outcome()
    for lower in reversed(lowers):
        with Extractor(target, whiteouts=Whiteouts.REMOVE) as extractor:
            stream = tar.Stream(Packer(lower, Options(overlay=True)).tree())
            outcome = extract_all(stream, extractor, Limits())
        total.entries += outcome.entries
        total.size += outcome.size
    return total
