"""Errors between their tree and HTTP: a status and Docker's sentence, and back; pure.

:func:`error_from` knows what went wrong by the words of the sentence, as one status stands for many
things and old daemons answer 500 where new ones say 400 or 409.

Source: Engine API 1.45, ``ErrorResponse``; moby ``errdefs``, ``daemon/errors.go``; docker/cli
``cli/command/container/run.go`` (what of a start's error decides between 125, 126 and 127).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable

from cellbox.errors import (
    AlreadyExists,
    CellboxError,
    Conflict,
    DockerfileError,
    EngineError,
    InUse,
    InvalidArgument,
    InvalidReference,
    NotFound,
    NotSupported,
    PermissionDenied,
    StartError,
    StepFailed,
    Unauthorized,
    Unavailable,
    WrongState,
)
from cellbox.wire.fields import Json

_NOT_EXECUTED = frozenset({126, 127})
_PATH = "path in the container"


def status_of(error: BaseException) -> int:
    """The HTTP status of an error; 500 for one that is not of our tree."""
    if isinstance(error, StartError) and error.exit_code in _NOT_EXECUTED:
        return 400
    if isinstance(error, Unauthorized) and str(error).startswith("pull access denied"):
        return 404  # as Docker has it: the registry does not say whether there is such an image
    return error.status if isinstance(error, CellboxError) else 500


def error_json(error: BaseException) -> Json:
    """``{"message": ...}``, in Docker's words where clients look for them."""
    return {"message": _message(error)}


def _message(error: BaseException) -> str:
    if isinstance(error, StartError):
        return _start_message(error)
    if isinstance(error, DockerfileError):
        return f"dockerfile parse error {error}"
    if type(error) is NotFound and str(error).startswith("No such "):
        return _not_found_message(error)
    return str(error) or type(error).__name__


def _start_message(error: StartError) -> str:
    """The command line takes 126 and 127 from Go's words for the kernel's answer, which are lower
    case; for any other failure they must not be there."""
    if error.exit_code not in _NOT_EXECUTED:
        return str(error)
    reason = os.strerror(error.errno).lower()
    told = error.detail if "executable file not found" in error.detail else ""
    return (
        "failed to create task for container: unable to start container process: "
        f"{told or f'{error.detail}: {reason}'}"
    )


def _not_found_message(error: NotFound) -> str:
    words = {
        "network": f"network {error.ref} not found",
        "volume": f"get {error.ref}: no such volume",
        _PATH: f"Could not find the file {error.ref} in container",
    }
    return words.get(error.kind, str(error))


# --- and back ------------------------------------------------------------------------------------


def error_from(status: int, message: str) -> CellboxError:
    """The error that a daemon's answer stands for."""
    for recognise in (_start_error, _dockerfile_error, _step_failed, _not_found, _by_words):
        if error := recognise(status, message):
            return error
    return _by_status(status, message)


_EXEC = re.compile(
    r'(exec: ".*?"): (?:stat .*?: )?(executable file not found in \$PATH'
    r"|no such file or directory|permission denied|is a directory|exec format error)"
)
_NO_FILE = "executable file not found in $PATH"
_REASONS = {
    _NO_FILE: (errno.ENOENT, 127),
    "no such file or directory": (errno.ENOENT, 127),
    "permission denied": (errno.EACCES, 126),
    "is a directory": (errno.EISDIR, 126),
    "exec format error": (errno.ENOEXEC, 126),
}
_OURS = re.compile(r"cannot start the container: (.*): (.*?) \((.*?)\)", re.DOTALL)
_NO_USER = re.compile(r"unable to find (?:user|group) .*")


def _start_error(status: int, message: str) -> StartError | None:
    if status not in (400, 500):
        return None
    if found := _EXEC.search(message):
        number, code = _REASONS[found[2]]
        missing = found[2] == _NO_FILE
        return StartError("exec", number, found[0] if missing else found[1], code)
    if found := _OURS.fullmatch(message):
        numbers = (one for one in errno.errorcode if os.strerror(one) == found[2])
        return StartError(found[3], next(numbers, errno.EIO), found[1])
    if found := _NO_USER.search(message):
        return StartError("user", errno.EINVAL, found[0])
    return None


_DOCKERFILE = re.compile(r"dockerfile parse error (?:on )?line (\d+): (.*)", re.DOTALL)


def _dockerfile_error(status: int, message: str) -> DockerfileError | None:
    found = _DOCKERFILE.search(message)
    return DockerfileError(found[2], int(found[1])) if found else None


_STEP = re.compile(r"The command '(.*)' returned a non-zero code: (\d+)", re.DOTALL)


def _step_failed(status: int, message: str) -> StepFailed | None:
    found = _STEP.fullmatch(message)
    return StepFailed(found[1], int(found[2])) if found else None


_NOT_THERE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"no such container (?P<ref>\S+)$"), "container"),
    (re.compile(r"network (?P<ref>\S+) not found"), "network"),
    (re.compile(r"get (?P<ref>\S+): no such volume"), "volume"),
    (re.compile(r'plugin "?(?P<ref>[^"\s]+)"? not found'), "plugin"),
    (re.compile(r"manifest for (?P<ref>\S+) not found"), "image"),
    (re.compile(r"Could not find the file (?P<ref>.*) in container"), _PATH),
)
_NO_SUCH = re.compile(r"No such (?P<kind>[a-z ]+): (?P<ref>\S+)(?: \((?P<hint>.*)\))?$")


def _not_found(status: int, message: str) -> NotFound | None:
    if found := _NO_SUCH.search(message):
        return NotFound(found["kind"], found["ref"], found["hint"] or "")
    for pattern, kind in _NOT_THERE:
        if found := pattern.search(message):
            return _saying(message, NotFound(kind, found["ref"]))
    return None


def _saying(message: str, error: NotFound) -> NotFound:
    """The error with the daemon's own sentence."""
    error.args = (message,)
    return error


_WORDS: tuple[tuple[str, frozenset[int], Callable[[str], CellboxError]], ...] = (
    (
        "pull access denied|push access denied|unauthorized|no basic auth credentials"
        "|authentication required|incorrect username or password|access to the resource is denied",
        frozenset({401, 404, 500}),
        Unauthorized,
    ),
    (
        "is already in use by container|already exists|already attached to network",
        frozenset({403, 409, 500}),
        AlreadyExists,
    ),
    (
        "port is already allocated|address already in use|volume is in use|conflict: unable to"
        "|is using its referenced image",
        frozenset({409, 500}),
        InUse,
    ),
    (
        "is not running|is not paused|is already paused|is paused|is restarting"
        "|stop the container before|cannot start a paused|removal of container"
        "|marked for removal|non running container|is running|has been started",
        frozenset({409, 500}),
        WrongState,
    ),
    (
        "invalid reference format|invalid repository name",
        frozenset({400, 500}),
        InvalidReference,
    ),
    (
        r"cannot unmarshal|multiple ids found|is ambiguous|is not connected to|\binvalid\b"
        r"|must be absolute|couldn't find pid field|unexpected eof",
        frozenset({500}),
        InvalidArgument,
    ),
    (
        "connection refused|connection reset|i/o timeout|no such host|handshake timeout"
        "|deadline exceeded",
        frozenset({500}),
        Unavailable,
    ),
    ("^page not found$", frozenset({404}), NotSupported),
)


def _by_words(status: int, message: str) -> CellboxError | None:
    for words, statuses, make in _WORDS:
        if status in statuses and re.search(words, message, re.IGNORECASE):
            return make(message)
    return None


_STATUSES: dict[int, Callable[[str], CellboxError]] = {
    401: Unauthorized,
    403: PermissionDenied,
    404: lambda message: _saying(message, NotFound("object", "")),
    409: Conflict,
    429: Unavailable,
    501: NotSupported,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def _by_status(status: int, message: str) -> CellboxError:
    make = _STATUSES.get(status, InvalidArgument if 400 <= status < 500 else EngineError)
    return make(message)
