"""nftables, by its own library (libnftables(3)) or, where that is missing, by the ``nft`` command.

A :class:`Nft` belongs to the network namespace in which it was made. What is given to it at once is
done in one transaction: all or nothing. Nothing of it is for several threads.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from typing import Any

from cellbox.errors import EngineError, NotSupported

_LIBRARY = "libnftables.so.1"
_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
_JSON = 1 << 4  # NFT_CTX_OUTPUT_JSON
_MISSING = "neither libnftables nor the command nft is there: apt-get install nftables"


class Nft:
    """nftables of the namespace of now. Raises NotSupported where nothing speaks to it."""

    def __init__(self) -> None:
        self._run: Callable[[str, bool], tuple[bool, str, str]]
        try:
            self._run = _Library().run
        except OSError:
            self._run = _command(shutil.which("nft", path=_PATH))

    def apply(self, text: str) -> None:
        """Do what ``text`` says, all of it or nothing. Raises EngineError with nftables' words, or
        NotSupported where this kernel or user may not."""
        good, _, said = self._run(text, False)
        if not good:
            raise _failure(said)

    def ask(self, text: str) -> str:
        """The answer to a ``list`` as JSON (libnftables-json(5)); empty for what is not there."""
        good, answer, _ = self._run(text, True)
        return answer if good else ""


def usable() -> str:
    """Why nftables cannot be used here and now; empty where it can."""
    try:
        Nft().apply("list tables\n")
    except (NotSupported, EngineError) as error:
        return str(error)
    return ""


def _failure(said: str) -> Exception:
    line = " ".join(said.split("\n", 1)[0].split())
    for words in ("not permitted", "not supported", "cache initialization"):
        if words in said:
            return NotSupported(f"this machine does not let us use nftables: {line}")
    return EngineError(f"nftables refused the rules: {line}")


class _Library:
    """One context of libnftables, which holds a netlink socket."""

    def __init__(self) -> None:
        self._library = _load()
        self._context = self._library.nft_ctx_new(0)
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def run(self, text: str, json: bool) -> tuple[bool, str, str]:
        """Success, output, errors."""
        self._library.nft_ctx_output_set_flags(self._context, _JSON if json else 0)
        code = self._library.nft_run_cmd_from_buffer(self._context, text.encode())
        output = self._library.nft_ctx_get_output_buffer(self._context)
        errors = self._library.nft_ctx_get_error_buffer(self._context)
        return code == 0, output.decode(errors="replace"), errors.decode(errors="replace")

    def __del__(self) -> None:
        if getattr(self, "_context", None):
            self._library.nft_ctx_free(self._context)


@cache
def _load() -> Any:
    library = ctypes.CDLL(_LIBRARY)
    library.nft_ctx_new.argtypes, library.nft_ctx_new.restype = (ctypes.c_uint32,), ctypes.c_void_p
    library.nft_ctx_output_set_flags.argtypes = (ctypes.c_void_p, ctypes.c_uint)
    library.nft_run_cmd_from_buffer.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    for name in ("free", "buffer_output", "buffer_error", "get_output_buffer", "get_error_buffer"):
        getattr(library, f"nft_ctx_{name}").argtypes = (ctypes.c_void_p,)
    for name in ("get_output_buffer", "get_error_buffer"):
        getattr(library, f"nft_ctx_{name}").restype = ctypes.c_char_p
    return library


def _command(path: str | None) -> Callable[[str, bool], tuple[bool, str, str]]:
    if path is None:
        raise NotSupported(_MISSING)

    def run(text: str, json: bool) -> tuple[bool, str, str]:
        # With -j it would take its input for JSON as well; a listing is one line of words.
        words = [path, "-j", *text.split()] if json else [path, "-f", "-"]
        done = subprocess.run(words, input=text, capture_output=True, text=True, env={})
        return done.returncode == 0, done.stdout, done.stderr

    return run
