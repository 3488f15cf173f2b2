"""Whom a URL talks to, and where one may lead."""

import pytest

from cellbox.errors import Unavailable
from cellbox.registry.origins import (
    Origin,
    is_loopback,
    next_url,
    origin_of,
    reach,
    reaches_of,
)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://reg.example/v2/", "https://reg.example"),
        ("https://REG.example:443/v2/", "https://reg.example"),
        ("http://127.0.0.1:5000/x?y=1", "http://127.0.0.1:5000"),
        ("http://[::1]:5000/", "http://[::1]:5000"),
    ],
)
def test_an_origin_is_scheme_host_and_port(url, text):
    assert str(origin_of(url)) == text


def test_the_default_port_is_the_same_origin():
    assert origin_of("https://reg.example:443/a") == origin_of("https://reg.example/b")
    assert origin_of("https://reg.example/") != origin_of("http://reg.example/")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://reg.example/",
        "gopher://reg.example/",
        "//reg.example/",
        "reg.example",
        "",
        "https://",
        "https://user:secret@reg.example/",
        "http://reg.example:99999999/",
        "https://reg.example/" + "a" * 9000,
    ],
)
def test_what_is_no_plain_url_is_refused_without_being_repeated(url):
    with pytest.raises(Unavailable) as caught:
        origin_of(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/blob?sig=1", "https://reg.example/blob?sig=1"),
        ("other", "https://reg.example/v2/other"),
        ("https://store.example/x", "https://store.example/x"),
        ("//store.example/x", "https://store.example/x"),
    ],
)
def test_redirects_that_are_followed(location, target):
    assert next_url("https://reg.example/v2/a", location) == target


@pytest.mark.parametrize("location", ["http://reg.example/a", "file:///etc/passwd", "http://[::1"])
def test_redirects_that_are_not(location):
    with pytest.raises(Unavailable):
        next_url("https://reg.example/v2/a", location)


def test_plain_http_may_lead_to_https_and_to_plain_http():
    assert next_url("http://127.0.0.1:5000/a", "https://store.example/") == "https://store.example/"
    assert next_url("http://127.0.0.1:5000/a", "http://127.0.0.1:5001/") == "http://127.0.0.1:5001/"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("10.0.0.1", "wide"),
        ("2001:db8::1", "wide"),
    ],
)
def test_how_far_an_address_reaches(address, expected):
    assert reach(address) == expected


def test_reaches_of_names():
    assert reaches_of("localhost") == {"loopback"}
    assert reaches_of("[::1]") == {"loopback"}
    assert reaches_of("2130706433") == {"loopback"}  # 127.0.0.1 as one number
    assert reaches_of("no-such-host.invalid") == frozenset()


def test_dockers_rule_for_plain_http():
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "::1"]))
    others = ["10.0.0.1", "localhost.example", "0.0.0.0", "reg.example", ""]
    assert not any(map(is_loopback, others))


def test_the_port_is_left_out_where_the_scheme_implies_it():
    assert Origin("https", "reg.example", 443).authority == "reg.example"
    assert Origin("http", "reg.example", 443).authority == "reg.example:443"
