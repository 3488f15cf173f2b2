"""One request, its redirects, and its body: who is told what, and what is refused."""

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading

import pytest

from cellbox.errors import Unavailable
from cellbox.registry.origins import origin_of
from cellbox.registry.retry import Policy, Transient
from cellbox.registry.transport import Transport

PATIENCE = Policy(connect=1.0, stall=2.0)
SECRET = "Basic c2VjcmV0"


@pytest.fixture
def transport(tmp_path):
    transport = Transport(PATIENCE, certs=tmp_path / "certs.d")
    yield transport
    transport.close()


@pytest.fixture
def certificate(tmp_path):
    """``certificate(days)``: a new authority and server in one, valid until so many days from now;
    the paths of its certificate and key."""
    x509 = pytest.importorskip("cryptography.x509", reason="needs cryptography for certificates")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def make(days=1):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.UTC)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=9))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        crt, pem = tmp_path / "server.crt", tmp_path / "server.key"
        crt.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        pem.write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
        return crt, pem

    return make


@pytest.fixture
def tls_registry(serving, certificate):
    """``tls_registry(days)``: a registry that speaks https with a certificate nobody knows."""

    def make(days=1):
        crt, key = certificate(days)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(crt, key)
        fake = serving(wrap=lambda sock: context.wrap_socket(sock, server_side=True))
        return fake, crt

    return make


def get(transport, fake, path="/v2/", **more):
    return transport.open("GET", f"http://{fake.address}{path}", {}, **more)


def test_an_answer_with_its_body(registry, transport):
    response = get(transport, registry)
    assert (response.status, response.read_all(100)) == (200, b"{}")
    assert str(response.origin) == f"http://{registry.address}"


def test_no_encoding_is_asked_for_or_undone(registry, transport, behave):
    registry.on("GET", "/", behave.status(200, b"not gzip", Content_Encoding="gzip"))
    assert get(transport, registry).read_all(100) == b"not gzip"
    assert registry.seen[0].headers["Accept-Encoding"] == "identity"


def test_a_body_that_is_larger_than_it_may_be(registry, transport, behave):
    registry.on("GET", "/", behave.status(200, b"x" * 101))
    with pytest.raises(Unavailable, match="over 100 bytes"):
        get(transport, registry).read_all(100)


def test_connections_are_kept(registry, transport):
    ports = set()
    registry.gate = lambda handler: ports.add(handler.client_address[1]) or True
    for _ in range(3):
        get(transport, registry).discard()
    assert len(ports) == 1


# --- N8: redirects


def test_n8_authorization_follows_within_an_origin_only(registry, other_host, transport, behave):
    registry.on("GET", "/v2/a", behave.redirect("/v2/b"))
    registry.on("GET", "/v2/b", behave.redirect(f"http://{other_host.address}/v2/"))
    assert get(transport, registry, "/v2/a", authorization=SECRET).status == 200
    assert [one.headers.get("Authorization") for one in registry.seen] == [SECRET, SECRET]
    assert "Authorization" not in other_host.seen[0].headers


def test_n8_authorization_does_not_come_back(registry, other_host, transport, behave):
    registry.on("GET", "/v2/a", behave.redirect(f"http://{other_host.address}/v2/x"))
    other_host.on("GET", "/v2/x", behave.redirect(f"http://{registry.address}/v2/"))
    get(transport, registry, "/v2/a", authorization=SECRET).discard()
    assert "Authorization" not in registry.seen[1].headers


def test_n8_a_loop_of_redirects_ends(registry, transport, behave):
    registry.on("GET", "/", behave.redirect("/again"), times=99)
    with pytest.raises(Unavailable, match="redirects more than 5 times"):
        get(transport, registry)
    assert len(registry.seen) == 6


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1:70/x",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
    ],
)
def test_n8_targets_that_are_refused(registry, transport, behave, target):
    registry.on("GET", "/", behave.redirect(target))
    with pytest.raises(Unavailable) as caught:
        get(transport, registry)
    assert not isinstance(caught.value, Transient)


def test_n8_https_does_not_lead_to_http(tls_registry, other_host, transport, behave):
    fake, _ = tls_registry()
    fake.on("GET", "/", behave.redirect(f"http://{other_host.address}/v2/"))
    with pytest.raises(Unavailable, match="from https to plain http"):
        transport.open("GET", f"https://{fake.address}/", {}, verify=False)
    assert other_host.seen == []


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "2130706433"])
def test_n8_a_registry_elsewhere_may_not_lead_to_this_machine(registry, transport, name):
    far = origin_of("http://no-such-registry.invalid/")
    url = f"http://{name}:{registry.address.rpartition(':')[2]}/v2/"
    with pytest.raises(Unavailable, match="an address it may not use"):
        transport.open("GET", url, {}, authorization=SECRET, asked_by=far)
    assert registry.seen == []


def test_a_request_for_a_token_is_not_sent_on(registry, other_host, transport, behave):
    registry.on("POST", "/token", behave.redirect(f"http://{other_host.address}/token"))
    with pytest.raises(Unavailable, match="redirects a request for a token"):
        transport.open("POST", f"http://{registry.address}/token", {}, body=b"refresh_token=x")
    assert other_host.seen == []


# --- what goes wrong on the way


def test_a_connection_that_is_reset(registry, transport, behave):
    registry.on("GET", "/", behave.reset)
    with pytest.raises(Transient, match=f"^{registry.address}: the connection broke"):
        get(transport, registry)


def test_a_body_that_is_cut(registry, transport, behave):
    registry.on("GET", "/", behave.body(b"half", length=8))
    with pytest.raises(Transient, match="ended too early"):
        get(transport, registry).read_all(100)


def test_an_answer_that_does_not_come(registry, tmp_path):
    over = threading.Event()
    registry.on("GET", "/", lambda handler: over.wait(20))
    transport = Transport(Policy(connect=1.0, stall=0.05), certs=tmp_path)
    with pytest.raises(Transient, match="stopped answering"):
        get(transport, registry)
    over.set()


def test_a_reader_can_be_cut_from_another_thread(registry, transport, behave):
    over = threading.Event()
    registry.on("GET", "/", behave.drip(b"ab", lambda: over.wait(20)))
    response = get(transport, registry)
    assert response.read() == b"a"
    threading.Timer(0.02, response.cut).start()
    with pytest.raises(Transient):
        response.read()
    over.set()


def test_n11_an_address_that_swallows_everything(tmp_path):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(4):  # more than its queue holds: further connections get no answer
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        transport = Transport(Policy(connect=0.1), certs=tmp_path)
        with pytest.raises(Transient, match="no connection within the time limit"):
            transport.open("GET", f"http://127.0.0.1:{full.getsockname()[1]}/v2/", {})


def test_n11_a_name_that_does_not_resolve(transport):
    url = "https://no-such-registry.invalid/v2/?token=secret-word"
    with pytest.raises(Unavailable, match=r"^no-such-registry\.invalid: no such host") as caught:
        transport.open("GET", url, {})
    assert "secret-word" not in str(caught.value)


def test_n11_plain_http_where_tls_should_be(registry, transport):
    with pytest.raises(Unavailable, match="does not speak TLS"):
        transport.open("GET", f"https://{registry.address}/v2/", {})


# --- certificates


def test_a_certificate_that_nobody_knows(tls_registry, transport):
    fake, _ = tls_registry()
    with pytest.raises(Unavailable, match="its certificate is not trusted: self.signed") as caught:
        transport.open("GET", f"https://{fake.address}/v2/", {})
    assert not isinstance(caught.value, Transient)


def test_n11_a_certificate_that_is_out_of_date_makes_one_think_of_the_clock(tls_registry, tmp_path):
    fake, crt = tls_registry(days=-1)
    folder = tmp_path / "certs.d" / fake.address
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes(crt.read_bytes())
    with pytest.raises(Unavailable, match="expired; is the clock of this machine right"):
        Transport(PATIENCE, tmp_path / "certs.d").open("GET", f"https://{fake.address}/v2/", {})


def test_an_authority_of_dockers_folder_is_trusted_for_its_host(tls_registry, transport, tmp_path):
    fake, crt = tls_registry()
    folder = tmp_path / "certs.d" / fake.address
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes(crt.read_bytes())
    assert transport.open("GET", f"https://{fake.address}/v2/", {}).status == 200


def test_an_authority_of_the_environment_is_trusted(tls_registry, transport, monkeypatch):
    fake, crt = tls_registry()
    monkeypatch.setenv("SSL_CERT_FILE", str(crt))
    assert transport.open("GET", f"https://{fake.address}/v2/", {}).status == 200


def test_a_certificate_that_cannot_be_read_names_its_folder(tls_registry, transport, tmp_path):
    fake, _ = tls_registry()
    folder = tmp_path / "certs.d" / fake.address
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_text("nonsense")
    with pytest.raises(Unavailable, match=r"a certificate in .*certs\.d.* cannot be used"):
        transport.open("GET", f"https://{fake.address}/v2/", {})


# --- proxies


def test_a_proxy_of_the_environment_is_used(registry, transport, monkeypatch, behave):
    monkeypatch.setenv("http_proxy", f"http://ada:secret@{registry.address}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    registry.on("GET", "reg.example", behave.status(200, b"from the proxy"))
    response = transport.open("GET", "http://reg.example/v2/", {})
    assert response.read_all(100) == b"from the proxy"
    assert registry.seen[0].path == "http://reg.example/v2/"
    assert registry.seen[0].headers["Proxy-Authorization"].startswith("Basic ")


def test_a_proxy_that_does_not_answer_keeps_its_password(transport, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://ada:secret-word@127.0.0.1:9")
    with pytest.raises(Transient, match=r"^reg\.example: ") as caught:
        transport.open("GET", "https://reg.example/v2/", {})
    assert "secret-word" not in str(caught.value)


def test_loopback_is_never_asked_through_a_proxy(registry, transport, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert get(transport, registry).status == 200
