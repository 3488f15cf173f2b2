"""What can go wrong, by what the caller can do about it.

::

    CellboxError
    |- InvalidArgument 400      the request itself is wrong: change it
    |  |- InvalidReference      not an image name
    |  '- DockerfileError       a line of a Dockerfile, with its number
    |- Unauthorized 401         log in
    |- PermissionDenied 403     this user may not
    |- NotFound 404             no such image, container, ...
    |- Conflict 409             the object is not in a state that allows it
    |  |- AlreadyExists         the name is taken
    |  |- InUse                 something else holds it
    |  '- WrongState            a verb that this status does not allow
    |- NotSupported 501         this kernel, engine or machine lacks it; the text says what to do
    |- Unavailable 503          a retry may help
    |- StepFailed 500           a command of a build ended with another code than 0
    |- Cancelled 500            whoever wanted it does so no more
    '- EngineError 500          a fault of ours or of the machine
       |- StartError            a container did not start: (stage, errno)
       '- IntegrityError        bytes are not what their digest says

A message is one sentence that says what is wrong, then, where there is one, the way out. ``linux``
raises :class:`OSError` naming the call; the rooms above turn it into this tree with ``from``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


class CellboxError(Exception):
    """The root of the tree. ``status`` is the HTTP status of the Docker Engine API."""

    status = 500


class InvalidArgument(CellboxError):
    """The request itself is wrong; repeating it cannot help."""

    status = 400


class InvalidReference(InvalidArgument):
    """A string is not an image reference (distribution reference grammar)."""


class DockerfileError(InvalidArgument):
    """A Dockerfile is wrong at ``line`` (counted from 1)."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line


class Unauthorized(CellboxError):
    """Credentials are missing or were refused."""

    status = 401


class PermissionDenied(CellboxError):
    """The caller is known and may not do this."""

    status = 403


class NotFound(CellboxError):
    """No object of this ``kind`` answers to ``ref``."""

    status = 404

    def __init__(self, kind: str, ref: str, hint: str = "") -> None:
        super().__init__(f"No such {kind}: {ref}" + (f" ({hint})" if hint else ""))
        self.kind = kind
        self.ref = ref


class Conflict(CellboxError):
    """The request is right, but not in the present state of the object."""

    status = 409


class AlreadyExists(Conflict):
    """The name is taken."""


class InUse(Conflict):
    """Something else still holds the object."""


class WrongState(Conflict):
    """The object's status does not allow this verb."""


class NotSupported(CellboxError):
    """This kernel, engine or machine lacks what is asked for; the text says what would change
    that."""

    status = 501


class Unavailable(CellboxError):
    """Something on the way did not answer; a retry may help."""

    status = 503


class StepFailed(CellboxError):
    """A command of a build ended with ``exit_code``, which is not 0."""

    def __init__(self, command: str, exit_code: int) -> None:
        super().__init__(f"The command '{command}' returned a non-zero code: {exit_code}")
        self.exit_code = exit_code


class Cancelled(CellboxError):
    """It was given up, because whoever wanted it does so no more."""


class EngineError(CellboxError):
    """A fault of the engine or of the machine below it."""


class StartError(EngineError):
    """A container's process could not be started.

    ``stage`` names the step (``"namespaces"``, ``"rootfs"``, ``"exec"``, ...), ``errno`` the
    kernel's answer. ``exit_code`` is Docker's: 127 not found, 126 found but not executable, 125 all
    else.
    """

    def __init__(self, stage: str, errno: int, detail: str, exit_code: int = 125) -> None:
        super().__init__(f"cannot start the container: {detail}: {os.strerror(errno)} ({stage})")
        self.stage = stage
        self.errno = errno
        self.detail = detail
        self.exit_code = exit_code


class IntegrityError(EngineError):
    """``what`` should have the digest ``expected`` and has ``got``."""

    def __init__(self, what: str, expected: str, got: str) -> None:
        super().__init__(f"{what} is not what it should be: expected {expected}, got {got}")
        self.expected = expected
        self.got = got


# Between processes --------------------------------------------------------------------------------


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as data."""
    if isinstance(error, OSError) and error.errno:
        return {"errno": error.errno, "path": str(error.filename or "")}
    ours = vars(error) if isinstance(error, CellboxError) else {}
    facts = {name: value for name, value in ours.items() if isinstance(value, str | int)}
    return {"kind": type(error).__name__, "message": str(error), "facts": facts}


def rebuild(data: Mapping[str, Any]) -> Exception:
    """The exception that :func:`describe` told: OSError, one of ours, or EngineError for the
    rest."""
    if "errno" in data:
        return OSError(data["errno"], os.strerror(data["errno"]), data["path"])
    kind = globals().get(str(data["kind"]))
    if not (isinstance(kind, type) and issubclass(kind, CellboxError)):
        return EngineError(f"{data['kind']}: {data['message']}")
    error = kind.__new__(kind)
    Exception.__init__(error, data["message"])
    vars(error).update(data.get("facts", {}))
    return error
