"""Challenges and tokens."""

import base64
import json
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.errors import Unauthorized, Unavailable
from cellbox.model.registry import Credential
from cellbox.registry.auth import Authenticator, Challenge, basic, parse_challenges
from cellbox.registry.origins import origin_of

REGISTRY = origin_of("https://reg.example/")
PULL = "repository:lab/tool:pull"
BEARER = 'Bearer realm="https://auth.example/token",service="reg.example",scope="repository:*:*"'


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", ()),
        ("Basic", (Challenge("basic"),)),
        ('Basic realm="a b"', (Challenge("basic", {"realm": "a b"}),)),
        ("bearer Realm=x , service=y", (Challenge("bearer", {"realm": "x", "service": "y"}),)),
        (r'Bearer realm="a\"b,c"', (Challenge("bearer", {"realm": 'a"b,c'}),)),
        (
            'Negotiate, Basic realm="r", Bearer realm="s",scope="a,b"',
            (
                Challenge("negotiate"),
                Challenge("basic", {"realm": "r"}),
                Challenge("bearer", {"realm": "s", "scope": "a,b"}),
            ),
        ),
        ('Bearer realm="a",realm="b"', (Challenge("bearer", {"realm": "a"}),)),
        ('Bearer realm="never ends', (Challenge("bearer"),)),
        ('Bearer realm="' + "a" * 10_000 + '"', ()),
    ],
)
def test_challenges(header, expected):
    found = parse_challenges(header)
    assert found[: len(expected)] == expected if expected else found == ()


def test_challenges_are_bounded():
    assert len(parse_challenges("Basic, " * 500)) == 8


@pytest.mark.parametrize(
    "header",
    [
        " " * 8000,
        "," * 8000,
        "Bearer a=" + " " * 8000 + '"',
        "Bearer " + 'a="\\' * 2000,
        "Bearer a" + " " * 8000,
        "a " * 4000,
    ],
)
@pytest.mark.timeout(5)
def test_no_header_takes_long(header):
    for _ in range(50):  # a pattern that backtracks would take half a second each time
        parse_challenges(header)


@given(st.text(alphabet='Basicer="\\, \t', max_size=200))
def test_any_header_is_read_in_the_end(header):
    assert len(parse_challenges(header)) <= 8


class Realm:
    """A token server: gives ``t1``, ``t2``, ..., or whatever ``answers`` holds."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def __call__(self, method, url, origin, authorization, form):
        self.asked.append((method, url, authorization, form))
        if self.answers:
            return self.answers.pop(0)
        return 200, json.dumps({"token": f"t{len(self.asked)}", "expires_in": 300}).encode()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def authenticator(realm, credential=None, clock=None):
    return Authenticator(realm, lambda host: credential, clock or Clock())


def test_nothing_is_sent_before_it_is_asked_for():
    realm = Realm()
    auth = authenticator(realm, Credential("ada", "engine"))
    assert auth.known(REGISTRY, PULL) == ""
    assert realm.asked == []


def test_a_token_without_a_login():
    realm = Realm()
    auth = authenticator(realm)
    assert auth.answer(REGISTRY, PULL, BEARER, "") == "Bearer t1"
    ((method, url, authorization, form),) = realm.asked
    assert (method, authorization, form) == ("GET", "", None)
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)
    assert query == {"service": ["reg.example"], "scope": [PULL]}  # ours, not the challenge's
    assert url.startswith("https://auth.example/token?")


def test_a_token_with_a_login():
    realm = Realm()
    authenticator(realm, Credential("ada", "engine")).answer(REGISTRY, PULL, BEARER, "")
    ((_, url, authorization, _),) = realm.asked
    assert authorization == "Basic " + base64.b64encode(b"ada:engine").decode()
    assert "account=ada" in url and "engine" not in url


def test_an_identity_token_is_sent_in_a_form():
    realm = Realm()
    auth = authenticator(realm, Credential(identity_token="ident&ity"))
    assert auth.answer(REGISTRY, PULL, BEARER, "") == "Bearer t1"
    ((method, url, authorization, form),) = realm.asked
    assert (method, url, authorization) == ("POST", "https://auth.example/token", "")
    fields = urllib.parse.parse_qs(form.decode())
    assert fields["grant_type"] == ["refresh_token"]
    assert fields["refresh_token"] == ["ident&ity"]
    assert fields["scope"] == [PULL]


def test_a_registry_token_is_sent_as_it_is():
    realm = Realm()
    auth = authenticator(realm, Credential(registry_token="mine"))
    assert auth.answer(REGISTRY, PULL, BEARER, "") == "Bearer mine"
    assert realm.asked == []


def test_a_token_is_kept_for_its_scope_until_shortly_before_it_expires():
    realm, clock = Realm(), Clock()
    auth = authenticator(realm, clock=clock)
    auth.answer(REGISTRY, PULL, BEARER, "")
    assert auth.known(REGISTRY, PULL) == "Bearer t1"
    assert auth.known(REGISTRY, "repository:other:pull") == ""
    clock.now = 295.0
    assert auth.known(REGISTRY, PULL) == "Bearer t2"
    assert len(realm.asked) == 2


def test_a_refused_token_is_replaced_once_for_all_threads():
    realm = Realm()
    auth = authenticator(realm)
    first = auth.answer(REGISTRY, PULL, BEARER, "")
    assert auth.answer(REGISTRY, PULL, BEARER, first) == "Bearer t2"
    assert auth.answer(REGISTRY, PULL, BEARER, first) == "Bearer t2"  # another thread, later
    assert len(realm.asked) == 2


def test_a_realm_that_gives_the_refused_token_again():
    same = (200, b'{"token": "same"}')
    auth = authenticator(Realm(same, same))
    refused = auth.answer(REGISTRY, PULL, BEARER, "")
    with pytest.raises(Unauthorized, match=r"reg\.example refuses the credentials"):
        auth.answer(REGISTRY, PULL, BEARER, refused)


def test_basic():
    auth = authenticator(Realm(), Credential("ada", "engine"))
    value = auth.answer(REGISTRY, PULL, 'Basic realm="r"', "")
    assert value == basic("ada", "engine") == auth.known(REGISTRY, PULL)
    with pytest.raises(Unauthorized, match="refuses the credentials"):
        auth.answer(REGISTRY, PULL, 'Basic realm="r"', value)


def test_a_login_is_looked_up_once_until_it_is_refused():
    asked = []
    auth = Authenticator(
        Realm(), lambda host: asked.append(host) or Credential("ada", f"word{len(asked)}"), Clock()
    )
    first = auth.answer(REGISTRY, PULL, "Basic", "")
    assert auth.known(REGISTRY, PULL) == first == basic("ada", "word1")
    assert asked == ["reg.example"]
    assert auth.answer(REGISTRY, PULL, "Basic", first) == basic("ada", "word2")


def test_a_login_that_was_made_meanwhile_is_found():
    logins = [None, Credential("ada", "engine")]
    auth = Authenticator(Realm(), lambda host: logins.pop(0), Clock())
    anonymous = auth.answer(REGISTRY, PULL, BEARER, "")
    assert auth.answer(REGISTRY, PULL, BEARER, anonymous) == "Bearer t2"
    assert logins == []


def test_basic_without_a_login_says_how_to_log_in():
    with pytest.raises(Unauthorized, match=r"docker login reg\.example"):
        authenticator(Realm()).answer(REGISTRY, PULL, 'Basic realm="r"', "")


@pytest.mark.parametrize("header", ["", "Negotiate", 'Digest realm="r"'])
def test_challenges_that_are_not_known(header):
    with pytest.raises(Unauthorized, match="in a way that is not known"):
        authenticator(Realm(), Credential("ada", "engine")).answer(REGISTRY, PULL, header, "")


@pytest.mark.parametrize(
    "realm",
    [
        "http://auth.example/token",
        "file:///etc/passwd",
        "https://ada:secret@auth.example/",
        "",
        "auth.example/token",
    ],
)
def test_a_realm_must_be_https_when_the_registry_is(realm):
    server = Realm()
    auth = authenticator(server, Credential("ada", "engine"))
    with pytest.raises(Unavailable):
        auth.answer(REGISTRY, PULL, f'Bearer realm="{realm}"', "")
    assert server.asked == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"token": 3}',
        b'{"token": ""}',
        b'{"token": "a\\r\\nHost: evil"}',
        b'{"token": "a b"}',
        b'{"token": "t", "expires_in": "soon"}',
        b'{"token": "' + b"t" * 70_000 + b'"}',
        b"[" * 100_000,
    ],
)
def test_what_is_not_a_token(body):
    with pytest.raises(Unavailable, match=r"auth\.example answers with something that is not a"):
        authenticator(Realm((200, body))).answer(REGISTRY, PULL, BEARER, "")


def test_the_other_name_of_a_token():
    realm = Realm((200, b'{"access_token": "other"}'))
    assert authenticator(realm).answer(REGISTRY, PULL, BEARER, "") == "Bearer other"


def test_a_realm_that_refuses():
    auth = authenticator(Realm((401, b"secret-word")), Credential("ada", "engine"))
    with pytest.raises(
        Unauthorized, match=r"auth\.example gives no token for reg\.example"
    ) as caught:
        auth.answer(REGISTRY, PULL, BEARER, "")
    assert "secret-word" not in str(caught.value)
