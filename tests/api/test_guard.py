from __future__ import annotations

import pytest

from cellbox.api.guard import admit
from cellbox.errors import PermissionDenied


@pytest.mark.parametrize(
    "host",
    [
        "",
        "d",
        "docker",
        "docker.example.com",
        "localhost",
        "localhost:2375",
        "api.moby.localhost",
        "%2Fvar%2Frun%2Fdocker.sock",
        "127.0.0.1:2375",
        "192.168.1.4",
        "[::1]:2375",
        "[::1]",
    ],
)
def test_what_clients_call_the_daemon_is_admitted(host: str) -> None:
    admit({"host": host}, encrypted=False)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "docker.example.com.evil.example",
        "evil.example:2375",
        "localhost.evil.example",
    ],
)
def test_a_name_of_the_internet_is_refused(host: str) -> None:
    with pytest.raises(PermissionDenied):
        admit({"host": host}, encrypted=False)


def test_over_tls_the_certificate_has_vouched_for_the_name() -> None:
    admit({"host": "docker.example:2376"}, encrypted=True)


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:8888", "null", ""])
@pytest.mark.parametrize("encrypted", [False, True])
def test_another_origin_is_refused(origin: str, encrypted: bool) -> None:
    with pytest.raises(PermissionDenied):
        admit({"host": "localhost:2375", "origin": origin}, encrypted=encrypted)


@pytest.mark.parametrize("origin", ["http://localhost:2375", "HTTPS://LOCALHOST:2375"])
def test_the_same_origin_is_admitted(origin: str) -> None:
    admit({"host": "localhost:2375", "origin": origin}, encrypted=False)


@pytest.mark.parametrize(
    ("site", "refused"),
    [("cross-site", True), ("same-site", True), ("same-origin", False), ("none", False)],
)
def test_what_a_browser_says_of_the_site_counts(site: str, refused: bool) -> None:
    headers = {"host": "localhost", "sec-fetch-site": site}
    if refused:
        with pytest.raises(PermissionDenied):
            admit(headers, encrypted=False)
    else:
        admit(headers, encrypted=False)
