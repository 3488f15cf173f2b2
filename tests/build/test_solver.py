"""Whole builds, in an engine: what they make, what they find again, and what they leave."""

from __future__ import annotations

import re
import threading

import pytest

from cellbox.errors import (
    Cancelled,
    DockerfileError,
    InvalidArgument,
    NotSupported,
    PermissionDenied,
    StartError,
    StepFailed,
)
from cellbox.model.container import HealthCheck

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def clean(nothing_left):
    """Nothing is left by any build."""


# Steps -------------------------------------------------------------------------------------------


def test_an_ordinary_build(build, context):
    where = context(
        "FROM busybox\nENV A=1 B=2\nWORKDIR /w\nCOPY f g\nRUN echo $A$B >>g; echo err >&2\n"
        'CMD ["cat", "g"]\n',
        {"f": "data\n"},
    )
    image = build(where, tags=("box:1", "other"))
    assert image.tags == ("box:1", "other:latest")
    assert build.run(image) == "data\n12\n"
    said = re.sub("[0-9a-f]{12}", "ID", build.text)
    assert said == (
        "Step 1/6 : FROM busybox\n ---> ID\nStep 2/6 : ENV A=1 B=2\n ---> ID\n"
        "Step 3/6 : WORKDIR /w\n ---> ID\nStep 4/6 : COPY f g\n ---> ID\n"
        "Step 5/6 : RUN echo $A$B >>g; echo err >&2\n ---> Running in ID\n\x1b[91merr\n\x1b[0m"
        "Removing intermediate container ID\n ---> ID\n"
        'Step 6/6 : CMD ["cat", "g"]\n ---> ID\nSuccessfully built ID\n'
        "Successfully tagged box:1\nSuccessfully tagged other:latest\n"
    )


def test_the_config_that_comes_of_it(build, context):
    image = build(
        context(
            'FROM busybox\nUSER 1:2\nEXPOSE 80 53/udp\nVOLUME /v\nLABEL l="a b"\n'
            "HEALTHCHECK --interval=3s CMD true\nSTOPSIGNAL SIGINT\nONBUILD ENV OB=1\n"
            'SHELL ["/bin/sh", "-ec"]\nENTRYPOINT ["echo", "ep"]\nCMD dflt\nMAINTAINER Ada\n'
        ),
        labels={"from": "outside"},
    )
    config = image.config
    assert (config.user, config.exposed_ports, config.volumes) == (
        "1:2",
        ("53/udp", "80/tcp"),
        ("/v",),
    )
    assert config.labels == {"l": "a b", "from": "outside"}
    assert config.health == HealthCheck(("CMD-SHELL", "true"), interval=3.0)
    assert (config.stop_signal, config.on_build) == ("SIGINT", ("ENV OB=1",))
    assert (config.shell, config.entrypoint) == (("/bin/sh", "-ec"), ("echo", "ep"))
    assert config.command == ("/bin/sh", "-ec", "dflt")
    assert image.author == "Ada"
    assert [entry.created_by for entry in image.history[-2:]] == [
        "MAINTAINER Ada",
        "LABEL from=outside",
    ]
    assert all(entry.empty_layer for entry in image.history[1:])


def test_an_entry_point_takes_the_inherited_command_away(build, context):
    one = build(context('FROM busybox\nENTRYPOINT ["echo"]\n'), tags=("one",))
    assert one.config.command == ()
    two = build(context('FROM one\nCMD ["x"]\nENTRYPOINT ["true"]\n'))
    assert two.config.command == ("x",)


def test_triggers_fire_once_in_who_builds_on_it(build, context):
    build(context("FROM busybox\nONBUILD COPY f /f\nONBUILD RUN cat /f >/g\n"), tags=("base",))
    child = build(context("FROM base\nCMD cat /g\n", {"f": "here"}), tags=("child",))
    assert "# Executing 2 build triggers\n" in build.text
    assert build.run(child) == "here"
    assert child.config.on_build == ()
    assert "trigger" not in (build(context("FROM child\nENV A=1\n")) and build.text)


def test_stages(build, context):
    where = context(
        "FROM busybox AS one\nRUN mkdir /d; echo art >/d/a; ln -s d/a /link; ln -s /d /dir\n"
        "FROM busybox AS unused\nRUN exit 1\n"
        "FROM scratch AS two\nCOPY --from=ONE /d/a /b\n"
        "FROM one\nCOPY --from=two /b /c\nCOPY --from=0 /link /dir/* /x/\nCMD cat /c /x/link /x/a\n"
    )
    image = build(where)
    assert build.run(image) == "art\nart\nart\n"
    assert "exit 1" not in build.text
    assert re.match(r"Step 1/8 : ", build.text)
    scratch = build(where, target="two")
    assert [len(scratch.layers), scratch.parent] == [1, ""]
    assert build(where, target="0").config.command == ("sh",)
    with pytest.raises(InvalidArgument, match=r'target stage "tow" could not be found'):
        build(where, target="tow")


def test_files_of_another_image(build, context):
    image = build(context("FROM scratch\nCOPY --from=busybox /etc/passwd /bin/busybox /\n"))
    files = build.run(build(context("FROM busybox\nCOPY --from=busybox /etc /e\nCMD ls /e\n")))
    assert (len(image.layers), files) == (1, "group\npasswd\n")


def test_arguments(build, context):
    where = context(
        "ARG BASE\nARG TAG=latest\nFROM $BASE:$TAG\nARG V=def\nARG TAG\nARG TARGETARCH\n"
        "ENV E=${V:-x} F=${NO:-fb} G=${V:+set}\nRUN echo $V $TAG $http_proxy >/v\n"
        "CMD echo $(cat /v) $E $F $G $V\n"
    )
    given = {"BASE": "busybox", "V": "mine", "http_proxy": "http://p", "odd": "1"}
    assert build.run(build(where, arguments=given)) == "mine latest http://p mine fb set\n"
    assert "[Warning] One or more build-args [odd] were not consumed\n" in build.text
    build(where, arguments={**given, "http_proxy": "http://other"})
    assert "Running in" not in build.text
    build(where, arguments={**given, "V": "yours"})
    assert "Running in" in build.text
    with pytest.raises(InvalidArgument, match="line 3: invalid reference format"):
        build(where)


def test_documents(build, context):
    where = context(
        "FROM busybox\nARG A=1\n"
        "RUN <<E\necho one\nread x </etc/passwd; echo $x >/o\nE\n"
        "RUN <<-S\n\t#!/bin/cat\n\tshown\nS\n"
        "RUN cat <<X >/p\np$A\nX\n"
        "COPY --chmod=640 <<F <<'G' /d/\nf$A \\$A \"q\"\nF\ng$A\nG\n"
        "CMD cat /o /p /d/F /d/G; stat -c %a /d/F\n"
    )
    assert build.run(build(where)) == 'root:x:0:0:root:/root:/bin/sh\np1\nf1 $A "q"\ng$A\n640\n'
    assert "one\n" in build.text and "#!/bin/cat\nshown\n" in build.text


def test_a_volume_of_the_image_is_only_told(build, context):
    where = context(
        "FROM busybox\nVOLUME /v\nCOPY f /v/f\nRUN echo more >>/v/f\nCMD cat /v/f\n", {"f": "a"}
    )
    image = build(where)
    assert build.run(image) == "amore\n"
    assert image.config.volumes == ("/v",)


def test_the_user_of_a_stage_owns_what_workdir_makes(build, context):
    where = context(
        "FROM busybox\nUSER guest\nWORKDIR /home/a/b\nRUN echo x >f; id -u >>f\nUSER root\n"
        "CMD stat -c %u:%g /home/a /home/a/b /home; cat f\n"
    )
    assert build.run(build(where)) == "405:100\n405:100\n0:0\nx\n405\n"


# COPY and ADD ------------------------------------------------------------------------------------


def test_where_files_go(build, context):
    where = context(
        "FROM busybox\nWORKDIR /w\nRUN mkdir /there; ln -s /there /link; chmod 700 /there\n"
        "COPY a file\nCOPY a there/\nCOPY a /there\nCOPY sub /link/\nCOPY a s*/b /many/\n"
        "COPY . .\nCOPY --chown=guest a /owned/deep/x\nCOPY --chown=7:8 --chmod=u=rw,go= a /o2\n"
        "CMD find /w /there /many /o2 /owned | sort | xargs stat -c '%n %a %u:%g'\n",
        {"a": "1", "sub/b": "2", "sub/c/d": "3"},
    )
    assert build.run(build(where)).splitlines() == [
        "/many 755 0:0", "/many/a 644 0:0", "/many/b 644 0:0",
        "/o2 600 7:8", "/owned 755 405:100", "/owned/deep 755 405:100", "/owned/deep/x 644 405:100",
        "/there 700 0:0", "/there/a 644 0:0", "/there/b 644 0:0", "/there/c 755 0:0",
        "/there/c/d 644 0:0",
        "/w 755 0:0", "/w/Dockerfile 644 0:0", "/w/a 644 0:0", "/w/file 644 0:0", "/w/sub 755 0:0",
        "/w/sub/b 644 0:0", "/w/sub/c 755 0:0", "/w/sub/c/d 644 0:0",
        "/w/there 755 0:0", "/w/there/a 644 0:0",
    ]  # fmt: skip


def test_a_link_at_the_destination_is_written_through(build, context):
    where = context(
        "FROM busybox\nRUN echo old >/real; ln -s real /l; ln -s /etc /e; ln -s none /n\n"
        "COPY f /l\nCOPY f /e\nCOPY f /n\nCMD cat /real /etc/f /n; ls -l /l /e | cut -c1\n",
        {"f": "new\n"},
    )
    assert build.run(build(where)).split() == ["new", "new", "new", "l", "l"]


def test_links_of_the_context(build, context):
    where = context(
        "FROM busybox\nCOPY l /one\nCOPY d /two\nCOPY out /\nCMD ls -l /two; cat /one\n", {"f": "x"}
    )
    (where / "l").symlink_to("f")
    (where / "d").mkdir()
    (where / "d" / "rel").symlink_to("../f")
    (where / "out").symlink_to("/etc/passwd")
    with pytest.raises(InvalidArgument, match="line 4: COPY failed: .*stat out: file does not"):
        build(where)
    (where / "Dockerfile").write_text(
        (where / "Dockerfile").read_text().replace("COPY out /\n", "")
    )
    shown = build.run(build(where))
    assert shown.endswith("rel -> ../f\nx")


def test_what_add_unpacks(build, context, tar_of):
    import gzip

    where = context(
        "FROM busybox\nADD x.tgz x.tar plain.gz /un/\nCMD cat /un/t /un/sub/u; ls /un\n",
        {
            "x.tgz": gzip.compress(tar_of(t=b"T").read()),
            "x.tar": tar_of(**{"sub/u": b"U"}).read(),
            "plain.gz": gzip.compress(b"no tar"),
        },
    )
    assert build.run(build(where)) == "TUplain.gz\nsub\nt\n"


def test_what_add_is_told_to_leave_packed(build, context, tar_of):
    where = context("FROM busybox\nADD --unpack=false x.tar /un/\nCMD ls /un\n",
                    {"x.tar": tar_of(t=b"T").read()})  # fmt: skip
    assert build.run(build(where)) == "x.tar\n"


def test_parents_are_kept_and_exclusions_left_out(build, context):
    where = context(
        "FROM busybox\nCOPY --parents a/b/*.c a/./d /p/\n"
        "COPY --exclude=**/*.o --exclude=b a /e/\n"
        "COPY --from=busybox --parents /etc/passwd /f/\n"
        "CMD find /p /e /f -type f | sort\n",
        {"a/b/x.c": "1", "a/b/y.o": "2", "a/d/z": "3", "a/d/w.o": "4"},
    )
    assert build.run(build(where)).split() == [
        "/e/d/z", "/f/etc/passwd", "/p/a/b/x.c", "/p/d/w.o", "/p/d/z",
    ]  # fmt: skip


def test_an_archive_cannot_leave_its_place(build, context, tar_of):
    for name in ("../evil", "a/../../evil"):
        where = context("FROM busybox\nADD x.tar /un/\n", {"x.tar": tar_of(**{name: b"x"}).read()})
        with pytest.raises(InvalidArgument, match=r"line 2: .*leads out of the archive"):
            build(where)


@pytest.mark.parametrize(
    ("line", "error", "said"),
    [
        (
            "COPY nofile /",
            InvalidArgument,
            "line 2: COPY failed: .*stat nofile: file does not exist",
        ),
        ("COPY *.none /", InvalidArgument, "no source files were specified"),
        ("COPY a b /c", InvalidArgument, "the destination must be a directory and end with a /"),
        ("COPY a /etc/passwd/", InvalidArgument, "line 2"),
        ("COPY --chmod=9 a /", InvalidArgument, "invalid chmod parameter"),
        ("COPY --chown=nobody9 a /", InvalidArgument, "unable to find user nobody9"),
        ("COPY --from=busybox /none /", InvalidArgument, "stat /none: file does not exist"),
        ("COPY --from=1 /a /", DockerfileError, "invalid from flag value 1"),
        ("COPY --parents x/./a /", InvalidArgument, "stat x/./a: file does not exist"),
        ("COPY --exclude=a a /", InvalidArgument, "no source files were specified"),
        ("ADD https://x.test/f.git /", NotSupported, "fetches no git repositories"),
        ("COPY https://x.test/f /", InvalidArgument, "source can't be a URL for COPY"),
        ("ADD --checksum=sha256:1 a /", InvalidArgument, "checksum requires"),
        ("RUN --device=x true", NotSupported, "RUN --device is not supported"),
        ("RUN --network=host true", PermissionDenied, "network.host is not allowed"),
        ("RUN --security=insecure true", PermissionDenied, "security.insecure is not allowed"),
        ("RUN --mount=source=no,target=/x true", InvalidArgument, 'line 2: .*"/no": not found'),
        ("RUN --mount=target=/ true", InvalidArgument, 'line 2: invalid mount target "/"'),
        ("RUN --mount=from=1,target=/x true", DockerfileError, "invalid from flag value 1"),
        ("EXPOSE http", InvalidArgument, "line 2: invalid containerPort: http"),
        ("STOPSIGNAL NOPE", InvalidArgument, "line 2: Invalid signal: NOPE"),
        ("ENV A=${B?none}", DockerfileError, "line 2: .*B: none"),
        ("BOGUS x", DockerfileError, "line 2: unknown instruction: BOGUS"),
        ("RUN exit 3", StepFailed, "The command '/bin/sh -c exit 3' returned a non-zero code: 3"),
        ('RUN ["nosuch"]', StartError, "nosuch"),
    ],
)
def test_what_goes_wrong(build, context, line, error, said):
    where = context(f"FROM busybox\n{line}\n", {"a": "1", "b": "2"})
    with pytest.raises(error, match=said):
        build(where, tags=("never",))
    assert "Successfully" not in build.text


def test_the_machine_itself_is_no_base(build, context):
    for line in ("ENV A=1", "RUN true"):
        with pytest.raises(NotSupported, match="built on the image host"):
            build(context(f"FROM host\n{line}\n"))


# The cache ---------------------------------------------------------------------------------------


def test_what_is_found_again(build, context):
    import os

    where = context("FROM busybox\nCOPY f /f\nRUN cat /f\nENV A=1\n", {"f": "1", "g": "2"})
    first = build(where)
    os.utime(where / "f", (1, 1))
    (where / "g").write_text("3")
    assert build(where).id == first.id
    assert build.text.count("Using cache") == 3
    (where / "f").chmod(0o600)
    assert build(where).id != first.id
    assert "Using cache" not in build.text
    (where / "f").chmod(0o644)
    assert build(where).id == first.id
    assert build(where, no_cache=True).id != first.id
    assert "Using cache" not in build.text


def test_a_stage_that_was_made_anew_with_the_same_files_is_no_change(build, context):
    where = context(
        "ARG V=1\nFROM busybox AS a\nARG V\nRUN echo $V >/v; echo same >/s\n"
        "FROM busybox\nCOPY --from=a /s /s\nRUN cat /s\n"
    )
    first = build(where)
    assert build(where, arguments={"V": "2"}).id == first.id
    assert build.text.count("Running in") == 1


def test_steps_are_hidden_and_go_with_their_image(engine, build, context):
    before = len(engine.images.list(all=True))
    where = context("FROM busybox\nENV A=1\nENV B=1\nENV C=1\n")
    one = build(where, tags=("one",))
    two = build(context("FROM busybox\nENV A=1\nENV B=1\nENV C=2\n"), tags=("two",))
    assert [image.tags[0] for image in engine.images.list()] == [
        "two:latest", "one:latest", "busybox:latest",
    ]  # fmt: skip
    assert len(engine.images.list(all=True)) == before + 4
    deleted = [one.deleted for one in engine.images.remove("one") if one.deleted]
    assert deleted[0] == one.id and two.parent not in deleted
    engine.images.remove("two")
    assert len(engine.images.list(all=True)) == before


# Giving up ---------------------------------------------------------------------------------------


def test_a_build_can_be_given_up(engine, build, context, until):
    where = context("FROM busybox\nRUN echo begun; sleep 1000\n")
    asked = threading.Event()

    def stop():
        if "begun" in build.text:
            asked.set()
        return asked.is_set()

    from cellbox.model.build import BuildSpec

    build.text = ""
    with pytest.raises(Cancelled):
        engine.images.build(where, BuildSpec(network="none"), tell=build._hear, stop=stop)


def test_an_interrupt_leaves_nothing(engine, context, busybox):
    from cellbox.model.build import BuildSpec

    def tell(piece):
        if "begun" in str(piece):
            raise KeyboardInterrupt

    where = context("FROM busybox\nRUN echo begun; sleep 1000\n")
    with pytest.raises(KeyboardInterrupt):
        engine.images.build(where, BuildSpec(network="none"), tell=tell)


def test_a_registry_is_asked_for_a_base_image_that_is_not_here(build, context, registry, engine):
    image = build(context(f"FROM {registry.name}\nENV A=1\n"))
    assert engine.images.get(registry.name).layers == image.layers
    assert build.steps[-1].action.startswith("Status: Downloaded newer image")
    build(context(f"FROM {registry.name}\nENV A=1\n"), pull=True)
    assert build.steps and "Using cache" in build.text
