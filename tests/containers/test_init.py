"""What a process finds when it begins to run in a container, and what it must not find."""

from __future__ import annotations

import os
import socket

import pytest

from cellbox.containers import init
from cellbox.containers.messages import Failure, Namespaces
from cellbox.errors import StartError
from cellbox.linux.mounts import Mount
from cellbox.model.codec import from_json


def status(store, *names, **how):
    out, code = store.result("cat", "/proc/self/status", **how)
    assert code == 0
    fields = dict(line.split(":", 1) for line in out.decode().splitlines())
    return [fields[name].strip() for name in names]


def test_only_the_standard_streams_are_open(store):
    out, _ = store.result("ls", "/proc/self/fd")
    assert out.split() == [b"0", b"1", b"2", b"3"]  # the last one is that of ls itself


def test_pid_1_of_init_holds_nothing_of_the_host_either(store):
    box = store.begin("sleep", "1000", init=True)
    assert sorted(os.listdir(f"/proc/{box.state.pid}/fd")) == ["0", "1", "2"]


def test_the_entering_process_cannot_be_looked_into(store):
    """CVE-2019-5736, CVE-2016-9962: pid 1 is the host's interpreter here, and out of reach."""
    box = store.begin("sleep", "1000", init=True)
    for name in ("exe", "fd", "root", "cwd", "map_files"):
        stream = box.exec("sh", "-c", f"ls /proc/1/{name}/ && readlink /proc/1/{name}")
        assert stream.wait() != 0
        stream.close()


def test_the_program_can_be_looked_into_by_its_own_user(store):
    out, code = store.result("readlink", "/proc/self/exe")
    assert (out, code) == (b"/bin/busybox\n", 0)


def test_capabilities_are_bounded_and_never_inheritable(store):
    assert status(store, "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") == [
        *("0" * 16, "0" * 14 + "21", "0" * 14 + "21", "0" * 14 + "21", "0" * 16)
    ]


def test_who_waits_has_given_up_no_more_than_the_next_one_can_do_without(store):
    """Init gives up in reserve what the last container did not hold."""
    for held, bits in (((), "0"), (("KILL",), "20"), (("CHOWN", "KILL"), "21"), (("CHOWN",), "1")):
        for _ in range(3):
            found = status(store, "CapEff", "CapBnd", process={"capabilities": held})
            assert found == [f"{bits:0>16}"] * 2


def test_another_user_has_no_capabilities_but_the_bounding_set(store):
    found = status(store, "CapPrm", "CapEff", "CapBnd", process={"user": "ann"})
    assert found == ["0" * 16, "0" * 16, "0" * 14 + "21"]


def test_signals_and_umask_are_as_a_program_expects(store):
    """Python ignores SIGPIPE, and the launcher works with a umask of 077."""
    assert status(store, "SigIgn", "SigBlk", "Umask") == ["0" * 16, "0" * 16, "0022"]


def test_sigpipe_ends_a_writer(store):
    out, code = store.result("sh", "-c", "yes | head -n 1")
    assert (out, code) == (b"y\n", 0)


def test_the_session_keyring_is_new(store):
    """A session keyring that was inherited would give away what the user has in it."""
    out, _ = store.result("sh", "-c", "cat /proc/keys | wc -l")
    assert out.strip() == b"0"  # masked


def test_no_new_privileges_only_where_it_was_asked_for(store):
    assert status(store, "NoNewPrivs") == ["0"]
    assert status(store, "NoNewPrivs", process={"no_new_privileges": True}) == ["1"]


def test_root_is_not_the_hosts_root(store):
    out, _ = store.result("cat", "/proc/self/uid_map")
    inside, outside, count = map(int, out.split())
    assert inside == 0 and count >= 1
    assert os.geteuid() != 0 or outside != 0


def test_two_containers_share_no_ids(store):
    one, two = store.begin("sleep", "1000"), store.begin("sleep", "1000")
    if os.geteuid() != 0:
        pytest.skip("an ordinary user may have one id only, which all containers share")
    assert os.stat(f"/proc/{one.state.pid}").st_uid != os.stat(f"/proc/{two.state.pid}").st_uid


def test_the_device_directory_holds_harmless_devices_only(store):
    out, _ = store.result("ls", "/dev")
    assert set(out.decode().split()) == {
        *("core", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin"),
        *("stdout", "tty", "urandom", "zero"),
    }
    script = "echo x > /dev/null && head -c 3 /dev/zero | wc -c && echo y > /dev/stdout"
    assert store.result("sh", "-c", script) == (b"3\ny\n", 0)


def test_a_device_made_on_disk_is_dead(store):
    """The overlay belongs to the container's user namespace, so it is nodev for good."""
    out, code = store.result(
        "sh", "-c", "/bin/busybox mknod /tmp/sda b 8 0; cat /tmp/sda", process={}
    )
    assert code != 0 and b"Operation not permitted" in out


def test_masked_and_read_only_paths(store):
    script = (
        "cat /proc/keys | wc -c; ls /sys/firmware | wc -l;"
        "echo 1 > /proc/sys/kernel/domainname; echo 1 > /proc/irq/default_smp_affinity;"
        "echo 1 > /sys/x"
    )
    out, code = store.result("sh", "-c", script)
    assert code != 0
    assert out.split(b"\n")[:2] == [b"0", b"0"]
    assert out.count(b"Read-only file system") == 3


def test_names_of_the_container(store):
    out, _ = store.result("cat", "/proc/sys/kernel/hostname", domainname="example")
    assert out == b"box\n"
    out, _ = store.result("cat", "/proc/sys/kernel/domainname", domainname="example")
    assert out == b"example\n"


def test_a_sysctl_of_its_own_namespace(store):
    out, _ = store.result(
        "cat", "/proc/sys/net/ipv4/ip_default_ttl", sysctls={"net.ipv4.ip_default_ttl": "77"}
    )
    assert out == b"77\n"
    assert open("/proc/sys/net/ipv4/ip_default_ttl").read() != "77\n"


def test_loopback_is_up(store):
    out, _ = store.result("cat", "/proc/net/fib_trie")
    assert b"127.0.0.1" in out


def test_a_read_only_root_still_has_its_mounts(store):
    script = "touch /new; touch /dev/shm/new && echo made"
    out, _ = store.result("sh", "-c", script, root={"flags": ("ro",)})
    assert b"Read-only file system" in out and b"made" in out


def test_init_reaps_and_ends_as_the_program_ends(store):
    assert store.result("sh", "-c", "(sleep 0 &); exit 7", init=True) == (b"", 7)
    assert store.result("sh", "-c", "kill -9 $$", init=True) == (b"", 137)


def test_init_passes_signals_on(store):
    box = store.begin(
        "sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 0.01; done", init=True
    )
    box.read_until(b"up\n")
    box.stream.signal("TERM")
    assert box.stream.wait() == 9


def test_init_and_a_terminal(store):
    box = store.begin("sh", "-c", "tty; ps -o pid,comm", init=True, process={"tty": True})
    out = b"".join(box.output())
    assert b"/dev/pts/0" in out


def test_a_symbolic_link_in_place_of_dev_is_refused(store, tmp_path, rootfs):
    """CVE-2026-41579 and CVE-2019-19921: nothing is made behind the link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("dev", "proc", "sys"):
        image = tmp_path / f"with-{name}"
        image.mkdir()
        for top in {"dev", "proc", "sys", "bin"} - {name}:
            (image / top).mkdir()
        (image / name).symlink_to("../" * 20 + str(outside).lstrip("/"))
        with pytest.raises(StartError) as caught:
            store.begin("true", root={"lowers": (str(image), str(rootfs))})
        assert caught.value.stage == "mounts"
    assert not list(outside.iterdir())


def test_a_missing_source_is_told_with_its_path(store):
    with pytest.raises(StartError) as caught:
        store.begin("true", mounts=(Mount("bind", "/data", source="/no/such/place"),))
    assert (caught.value.stage, caught.value.errno) == ("rootfs", 2)
    assert "/no/such/place" in str(caught.value)


def test_a_failure_is_cut_to_a_packet():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        init.report(theirs, Failure("exec", 36, "\U0001f600" * 100_000, 127))
        import json

        failure = from_json(Failure, json.loads(ours.recv(65536))["failure"])
        assert failure.exit_code == 127 and len(failure.detail) == 2000


def test_a_failure_that_nobody_hears_is_no_error():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    with theirs:
        init.report(theirs, Failure("exec", 2, "gone"))


def test_sharing_the_network_of_another(store):
    owner = store.begin("sleep", "1000")
    pid = owner.state.pid
    out, _ = store.result(
        *("readlink", "/proc/self/ns/net"),
        namespaces=Namespaces(network=str(pid)),
        mounts=(Mount("bind", "/sys", source="/sys", flags=("ro",), recursive=True),),
        without=("/sys",),
    )
    assert out.decode().strip() == os.readlink(f"/proc/{pid}/ns/net")


def test_sharing_with_one_that_is_gone_is_refused(store):
    """Born all the same, the container would have the host's network."""
    owner = store.begin("sleep", "1000")
    pid = owner.state.pid
    owner.stream.signal("KILL")
    owner.stream.wait()
    with pytest.raises(StartError) as caught:
        store.begin("true", namespaces=Namespaces(network=str(pid)))
    assert caught.value.stage == "namespaces"
