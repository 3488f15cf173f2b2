"""``build``: its words, its contexts, and what is shown."""

from __future__ import annotations

import io
import socket
import tarfile
from pathlib import Path

import pytest

from cellbox.errors import InvalidArgument, StepFailed
from cellbox.model.build import BuildSecret, BuildSpec
from cellbox.model.container import Limits


def test_a_directory_is_built(engine, say, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FROM_HERE", "x")
    monkeypatch.delenv("NOWHERE", raising=False)
    image = say(
        f"_ = %container build -t box:1 -t other --build-arg A=1 --build-arg FROM_HERE "
        f"--build-arg NOWHERE --target t --no-cache --pull --label l=v --network none "
        f"-m 64m --shm-size 1m --add-host h:1.2.3.4 {tmp_path}"
    )
    assert image is None or image
    assert engine.named("build") == [
        (
            "build",
            Path(tmp_path),
            BuildSpec(
                tags=("box:1", "other"),
                arguments={"A": "1", "FROM_HERE": "x"},
                labels={"l": "v"},
                target="t",
                no_cache=True,
                pull=True,
                network="none",
                extra_hosts=("h:1.2.3.4",),
                shm_size=1 << 20,
                limits=Limits(memory=64 << 20),
            ),
        )
    ]
    told = capsys.readouterr()
    assert "Step 1/1 : FROM ubuntu\n" in told.out
    assert told.err == "a1: Downloading\n"


def test_the_result_is_the_image(say, tmp_path):
    assert say(f"%container build -t box:1 {tmp_path}").tags == ("box:1",)
    assert say(f"%container image build -t box:2 {tmp_path}").tags == ("box:2",)


def test_quietly_the_id_is_all(engine, say, tmp_path, capsys):
    (id,) = say(f"%container build -q {tmp_path}")
    assert id.startswith("sha256:")
    assert "Step" not in capsys.readouterr().out
    with pytest.raises(StepFailed):
        say(f"%container build -q --target broken {tmp_path}")
    assert "Step 1/1" in capsys.readouterr().out


def test_a_dockerfile_is_named_from_where_one_stands(engine, say, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    say("%container build -f sub/D .")
    assert engine.named("build")[-1][2].dockerfile == str(tmp_path / "sub" / "D")


def test_standard_input_is_a_context_or_a_dockerfile(engine, say, tmp_path, monkeypatch, tar_of):
    def build(words: str, data: bytes) -> tuple[object, BuildSpec]:
        from cellbox_magics.notebook import Notebook

        monkeypatch.setattr(Notebook, "source", lambda self: io.BytesIO(data))
        say(f"%container build {words}")
        return engine.named("build")[-1][1:]

    archive = tar_of(Dockerfile=b"FROM x").read()
    assert build("-", archive)[0] == archive
    context, _ = build("-", b"FROM y\n")
    with tarfile.open(fileobj=io.BytesIO(context)) as found:
        assert found.extractfile("Dockerfile").read() == b"FROM y\n"
    seen = []
    known = engine.images.build

    def read(context, spec, **more):
        seen.append(Path(spec.dockerfile).read_bytes())
        return known(context, spec, **more)

    monkeypatch.setattr(engine.images, "build", read)
    build(f"-f - {tmp_path}", b"FROM z\n")
    assert seen == [b"FROM z\n"]
    with pytest.raises(InvalidArgument, match="both"):
        build("-f - -", b"")


def test_secrets_agents_and_entitlements(engine, say, tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "t")
    place = str(tmp_path / "agent")
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(place)
        monkeypatch.setenv("SSH_AUTH_SOCK", place)
        say(
            f"%container build --secret id=a,src=/f --secret id=b,env=B --secret id=TOKEN "
            f"--secret id=c,type=env,src=C --ssh default --ssh x={place} "
            f"--allow security.insecure {tmp_path}"
        )
    ((_, _, spec),) = engine.named("build")
    assert spec.secrets == {
        "a": BuildSecret(file="/f"),
        "b": BuildSecret(variable="B"),
        "TOKEN": BuildSecret(variable="TOKEN"),
        "c": BuildSecret(variable="C"),
    }
    assert spec.ssh == {"default": place, "x": place}
    assert spec.entitlements == {"security.insecure"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--secret src=f", "needs an id"),
        ("--secret id=a,file=f", "unexpected key 'file'"),
        ("--secret id", "must be a key=value pair"),
        ("--ssh default=/none", "no socket of an SSH agent"),
        ("--allow all", "unknown entitlement: all"),
    ],
)
def test_what_cannot_be_given(say, tmp_path, words, said):
    with pytest.raises(InvalidArgument, match=said):
        say(f"%container build {words} {tmp_path}")


def test_caches_are_pruned(say):
    assert "c" * 64 in str(say("%container builder prune -f"))
