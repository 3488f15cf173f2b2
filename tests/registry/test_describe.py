"""What a registry has, and whether it lets somebody in."""

import pytest

from cellbox.errors import IntegrityError, InvalidArgument, NotFound, Unauthorized
from cellbox.model.image import Platform
from cellbox.model.reference import parse
from cellbox.model.registry import Credential
from cellbox.registry.auth import basic
from cellbox.registry.config import Settings
from cellbox.registry.describe import check_login, describe, domain_of

ADA = Credential("ada", "engine")
AMD64 = Platform("linux", "amd64")
ARM = Platform("linux", "arm64", "v8")


def wants_basic(handler):
    if handler.headers.get("Authorization") == basic("ada", "engine"):
        return True
    handler.reply(401, WWW_Authenticate='Basic realm="r"')
    return False


def test_an_image_of_one_platform(registry, client):
    image = registry.put_image(platform=ARM)
    found = describe(image.reference, client)
    assert found.descriptor == image.manifest
    assert [(one.os, one.architecture) for one in found.platforms] == [("linux", "arm64")]


def test_an_index_lists_its_platforms(registry, client):
    images = [(registry.put_image(tag="a"), AMD64), (registry.put_image(tag="b"), ARM)]
    index = registry.put_index(images, tag="both")
    found = describe(parse(f"{registry.address}/lab/tool:both"), client)
    assert found.descriptor.digest == index.digest
    assert [one.architecture for one in found.platforms] == ["amd64", "arm64"]
    assert not registry.requests("GET", "/blobs/")


def test_a_name_that_is_not_there(registry, client):
    with pytest.raises(NotFound, match="manifest"):
        describe(parse(f"{registry.address}/lab/none"), client)


def test_a_config_that_is_another_one_is_refused(registry, client, behave):
    image = registry.put_image()
    size = image.document["config"]["size"]
    registry.on("GET", "/blobs/", behave.body(b"x" * size))
    with pytest.raises(IntegrityError):
        describe(image.reference, client)


def test_a_config_beyond_measure_is_not_fetched(registry, client):
    image = registry.put_image()
    image.document["config"]["size"] = 1 << 40
    registry.put_manifest(image.document, image.manifest.media_type, tag="big")
    with pytest.raises(InvalidArgument, match="too large"):
        describe(parse(f"{registry.address}/lab/tool:big"), client)
    assert not registry.requests("GET", "/blobs/")


# --- logins --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "domain"),
    [
        ("", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("Reg.Example:5000", "reg.example:5000"),
        ("https://reg.example/v2/", "reg.example"),
        ("http://127.0.0.1:5000", "127.0.0.1:5000"),
        ("reg:443", "reg:443"),
        ("[::1]:5000", "[::1]:5000"),
    ],
)
def test_a_server_is_the_domain_of_its_images(server, domain):
    assert domain_of(server) == domain


@pytest.mark.parametrize("server", ["a b", "ada@reg", "reg?x", "reg#x", "reg:x", "http://?"])
def test_what_is_no_server_gets_no_password(server):
    with pytest.raises(InvalidArgument, match="not the address"):
        domain_of(server)


def test_a_login_that_is_right_is_silent(registry, make_client):
    registry.gate = wants_basic
    check_login(registry.address, make_client(credential=lambda host: ADA))


@pytest.mark.parametrize("credential", [Credential("ada", "wrong"), Credential(), None])
def test_a_login_that_is_wrong_is_refused(registry, make_client, credential):
    registry.gate = wants_basic
    with pytest.raises(Unauthorized, match="login attempt to 127.0.0.1:.*401"):
        check_login(registry.address, make_client(credential=lambda host: credential))


def test_a_mirror_is_not_asked_whether_a_login_is_right(registry, make_client, monkeypatch):
    settings = Settings(mirrors=(f"http://{registry.address}",))
    client = make_client(settings=settings, credential=lambda host: ADA)
    asked = [one.host for one in client.repositories(parse("docker.io/lab/x"))]
    assert asked[0] == registry.address
    pinged = []
    monkeypatch.setattr(
        "cellbox.registry.client.Repository.ping", lambda self: pinged.append(self.host)
    )
    check_login("docker.io", client)
    assert pinged == [asked[-1]] != [registry.address]
