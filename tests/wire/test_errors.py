"""Errors between their tree and HTTP."""

from __future__ import annotations

import errno

import pytest

from cellbox import errors
from cellbox.errors import (
    AlreadyExists,
    CellboxError,
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
from cellbox.wire.errors import error_from, error_json, status_of


def exit_code(message):
    """What the docker command exits with (run.go, runStartContainerErr), case and all."""
    if any(sign in message for sign in ("executable file not found", "no such file or directory")):
        return 127
    if any(sign in message for sign in ("permission denied", "is a directory")):
        return 126
    return 125


STARTS = [
    (StartError("exec", errno.ENOENT, 'exec: "x": executable file not found in $PATH', 127), 400),
    (StartError("exec", errno.ENOENT, 'exec: "/x"', 127), 400),
    (StartError("exec", errno.EACCES, 'exec: "/etc/passwd"', 126), 400),
    (StartError("exec", errno.EISDIR, 'exec: "/etc"', 126), 400),
    (StartError("rootfs", errno.ENOENT, "/var/x"), 500),
    (StartError("workdir", errno.EACCES, "/root (a)"), 500),
    (StartError("user", errno.EINVAL, "unable to find user x: no matching entries"), 500),
]


@pytest.mark.parametrize(("error", "status"), STARTS)
def test_the_command_line_finds_the_exit_code_of_a_start(error, status):
    assert status_of(error) == status
    assert exit_code(error_json(error)["message"]) == error.exit_code


@pytest.mark.parametrize("error", [error for error, _ in STARTS])
def test_starts_there_and_back(error):
    found = error_from(status_of(error), error_json(error)["message"])
    assert isinstance(found, StartError)
    assert (found.stage, found.errno, found.exit_code) == (
        error.stage, error.errno, error.exit_code,
    )  # fmt: skip
    assert str(found) == str(error)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (NotFound("container", "x"), 404, "No such container: x"),
        (NotFound("network", "x"), 404, "network x not found"),
        (NotFound("volume", "x"), 404, "get x: no such volume"),
        (NotFound("path in the container", "/a b"), 404,
         "Could not find the file /a b in container"),
        (DockerfileError("unknown instruction: X", 3), 400,
         "dockerfile parse error line 3: unknown instruction: X"),
        (Unauthorized("pull access denied for x, ..."), 404, "pull access denied for x, ..."),
        (Unauthorized("unauthorized: no"), 401, "unauthorized: no"),
        (ValueError("odd"), 500, "odd"),
        (KeyError(), 500, "KeyError"),
    ],
)  # fmt: skip
def test_status_and_sentence(error, status, message):
    assert (status_of(error), error_json(error)) == (status, {"message": message})


def test_an_errors_own_sentence_is_kept():
    error = NotFound("network", "x")
    error.args = ("there is no x today",)
    assert error_json(error) == {"message": "there is no x today"}


SAME = [
    NotFound("container", "x"),
    NotFound("image", "x:latest", "pull it first"),
    NotFound("exec instance", "x"),
    AlreadyExists('Conflict. The container name "/a" is already in use by container "b".'),
    InUse("remove v: volume is in use - [a]"),
    InUse('conflict: unable to delete a (must be forced) - image is being used'),
    WrongState("Container a is not running"),
    WrongState("Container a is paused, unpause the container before exec"),
    InvalidArgument("Invalid filter 'x'"),
    PermissionDenied("network n has active endpoints"),
    NotSupported("not here"),
    Unavailable("later"),
    Unauthorized("unauthorized: no"),
    EngineError("broken"),
    StepFailed("/bin/sh -c exit 3", 3),
]  # fmt: skip


@pytest.mark.parametrize("error", SAME, ids=str)
def test_kinds_and_sentences_there_and_back(error):
    found = error_from(status_of(error), error_json(error)["message"])
    assert (type(found), str(found)) == (type(error), str(error))


def test_what_was_not_found_is_known_by_name():
    for error in (NotFound("network", "x"), NotFound("volume", "x"), NotFound("image", "x:1")):
        found = error_from(404, error_json(error)["message"])
        assert isinstance(found, NotFound)
        assert (found.kind, found.ref) == (error.kind, error.ref)
    found = error_from(400, "dockerfile parse error on line 2: x")
    assert isinstance(found, DockerfileError) and found.line == 2


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (404, "no such image: a: No such image: a:latest", NotFound),
        (404, 'plugin "x" not found', NotFound),
        (404, "manifest for a:b not found: manifest unknown", NotFound),
        (404, "who knows", NotFound),
        (404, "page not found", NotSupported),
        (404, "pull access denied for a, repository does not exist", Unauthorized),
        (500, "Get x: unauthorized: authentication required", Unauthorized),
        (403, "endpoint with name a already exists in network n", AlreadyExists),
        (409, "network with name n already exists", AlreadyExists),
        (500, "Bind for 0.0.0.0:80 failed: port is already allocated", InUse),
        (500, "Container a is not paused", WrongState),
        (409, "You cannot remove a running container a. Stop the container before", WrongState),
        (500, "invalid reference format: repository name must be lowercase", InvalidReference),
        (500, "Multiple IDs found with provided prefix: 1", InvalidArgument),
        (500, "container a is not connected to network n", InvalidArgument),
        (500, "json: cannot unmarshal number into Go value", InvalidArgument),
        (500, "dial tcp 127.0.0.1:1: connect: connection refused", Unavailable),
        (418, "no tea", InvalidArgument),
        (409, "no", errors.Conflict),
        (504, "slow", Unavailable),
        (500, "exploded", EngineError),
    ],
)
def test_old_daemons_are_understood_by_their_words(status, message, kind):
    found = error_from(status, message)
    assert type(found) is kind
    if kind is not NotFound:
        assert str(found) == message


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ('exec: "nosuchcmd": executable file not found in $PATH: unknown', 127),
        ('exec: "/bin/nope": stat /bin/nope: no such file or directory: unknown', 127),
        ('exec: "/etc/passwd": permission denied: unknown', 126),
        ('exec: "/etc": is a directory: unknown', 126),
    ],
)
def test_a_daemons_failed_starts(reason, code):
    found = error_from(400, f"failed to create shim task: OCI runtime create failed: {reason}")
    assert isinstance(found, StartError)
    assert (found.stage, found.exit_code) == ("exec", code)
    assert found.detail.startswith('exec: "') and "unknown" not in str(found)


def test_every_answer_of_a_daemon_keeps_its_class(dockerd):
    for status, message in dockerd["errors"]:
        found = error_from(status, message)
        assert isinstance(found, CellboxError)
        if status != 500 and message != "page not found":
            assert status_of(found) == status, message
        if status == 500:
            assert type(found) is not EngineError, message
