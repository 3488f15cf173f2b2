"""Python file objects where a worker needs descriptors: a thread and a pipe in between."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import BinaryIO

CHUNK = 1 << 18


@contextmanager
def reading(source: BinaryIO) -> Iterator[int]:
    """A descriptor that gives what ``source`` gives. What reading it raises comes out of the block,
    before an error of whoever got only a part."""
    own = _descriptor(source)
    if own is not None:
        yield own
        return
    reader, writer = os.pipe()
    with ThreadPoolExecutor(1) as pool:
        feeding = pool.submit(_feed, source, writer)
        try:
            yield reader
        finally:
            os.close(reader)
            feeding.result()


def _feed(source: BinaryIO, writer: int) -> None:
    try:
        with open(writer, "wb") as pipe:
            shutil.copyfileobj(source, pipe, CHUNK)
    except BrokenPipeError:  # the worker has read all it wants, or failed and says so itself
        pass


@contextmanager
def writing(out: BinaryIO) -> Iterator[int]:
    """A descriptor whose input arrives in ``out``; all of it has when the block ends. What writing
    it raises comes out of the block, before an error of whoever lost his reader by that."""
    own = _descriptor(out)
    if own is not None:
        out.flush()
        yield own
        return
    reader, writer = os.pipe()
    with ThreadPoolExecutor(1) as pool:
        draining = pool.submit(_drain, reader, out)
        try:
            yield writer
        finally:
            os.close(writer)
            draining.result()


def _drain(reader: int, out: BinaryIO) -> None:
    with open(reader, "rb") as pipe:
        shutil.copyfileobj(pipe, out, CHUNK)


def _descriptor(file: BinaryIO) -> int | None:
    """The file's own descriptor, where nothing of it waits in a buffer of Python's."""
    if not isinstance(file, io.BufferedWriter | io.FileIO):
        return None
    return file.fileno()
