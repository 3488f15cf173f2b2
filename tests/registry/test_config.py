"""Which servers stand for a registry's name."""

import pytest

from cellbox.errors import InvalidArgument
from cellbox.registry.config import HUB, Endpoint, Settings, load_settings


@pytest.fixture
def write(tmp_path):
    """``write(text)``: make it the user's configuration; the environment that finds it."""

    def make(text):
        folder = tmp_path / "cellbox"
        folder.mkdir(exist_ok=True)
        (folder / "config.toml").write_text(text)
        return {"XDG_CONFIG_HOME": str(tmp_path)}

    return make


def test_without_a_file_there_are_no_mirrors(tmp_path):
    assert load_settings({"XDG_CONFIG_HOME": str(tmp_path)}) == Settings()


def test_the_file_names_mirrors_and_insecure_registries(write):
    environ = write(
        '[registries]\nmirrors = ["http://127.0.0.1:5000", "https://m.example/"]\n'
        'insecure = ["lab.example:5000", "old.example"]\n'
    )
    assert load_settings(environ) == Settings(
        ("http://127.0.0.1:5000", "https://m.example/"), ("lab.example:5000", "old.example")
    )


def test_other_tables_are_other_peoples(write):
    assert load_settings(write("[network]\nname = 1\n")) == Settings()


def test_the_environment_takes_the_place_of_the_mirrors(write):
    environ = write('[registries]\nmirrors = ["https://m.example"]\ninsecure = ["a.example"]\n')
    environ["CELLBOX_REGISTRY_MIRROR"] = "http://127.0.0.1:1, http://127.0.0.1:2"
    found = load_settings(environ)
    assert found.mirrors == ("http://127.0.0.1:1", "http://127.0.0.1:2")
    assert found.insecure == ("a.example",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[registries\n", r"config\.toml: .*line 1"),
        ("registries = 3\n", r"config\.toml: registries must be a table"),
        ("[registries]\nmirror = []\n", r"config\.toml: unknown key registries\.mirror"),
        ('[registries]\nmirrors = "http://a"\n', r"registries\.mirrors must be a list"),
        ("[registries]\nmirrors = [1]\n", r"registries\.mirrors: each entry must be a URL"),
        ('[registries]\nmirrors = ["m.example"]\n', r"registries\.mirrors: each entry"),
        ('[registries]\nmirrors = ["file:///x"]\n', r"registries\.mirrors: each entry"),
        ('[registries]\nmirrors = ["https://a.example/path"]\n', r"registries\.mirrors"),
        ('[registries]\nmirrors = ["https://u:secret@a.example"]\n', r"registries\.mirrors"),
        ('[registries]\ninsecure = ["http://a.example"]\n', r"registries\.insecure: each entry"),
        ('[registries]\ninsecure = [""]\n', r"registries\.insecure: each entry"),
    ],
)
def test_a_bad_file_is_one_clear_error(write, text, sentence):
    with pytest.raises(InvalidArgument, match=sentence) as caught:
        load_settings(write(text))
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_text(write, tmp_path):
    environ = write("")
    (tmp_path / "cellbox" / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgument, match=r"config\.toml"):
        load_settings(environ)


def test_a_bad_variable_names_itself(tmp_path):
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "CELLBOX_REGISTRY_MIRROR": "nonsense"}
    with pytest.raises(InvalidArgument, match="^CELLBOX_REGISTRY_MIRROR: "):
        load_settings(environ)


def test_the_hub_is_asked_after_its_mirrors():
    settings = Settings(mirrors=("http://127.0.0.1:5000", "https://m.example/"))
    assert settings.endpoints("docker.io") == (
        Endpoint("127.0.0.1:5000", ("http",), verify=False, mirror=True),
        Endpoint("m.example", ("https",), verify=True, mirror=True),
        Endpoint(HUB, ("https",), verify=True),
    )


def test_mirrors_stand_for_the_hub_only():
    settings = Settings(mirrors=("http://127.0.0.1:5000",))
    assert settings.endpoints("reg.example") == (Endpoint("reg.example"),)


@pytest.mark.parametrize("domain", ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000"])
def test_loopback_may_speak_plain_http(domain):
    assert Settings().endpoints(domain) == (Endpoint(domain, ("https", "http"), verify=False),)


def test_others_only_where_it_is_said():
    settings = Settings(insecure=("lab.example:5000",))
    assert settings.endpoints("lab.example:5000")[0].schemes == ("https", "http")
    for domain in ("lab.example", "lab.example:5001", "10.0.0.1:5000", "localhost.example"):
        assert settings.endpoints(domain)[0].schemes == ("https",)
