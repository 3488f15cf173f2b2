"""What a container can see and touch of the machine it runs on: nothing that it was not given.

Each attack is the concrete one: the program that a user could run inside, and what must come of it.
"""

from __future__ import annotations

import ctypes
import errno
import io
import json
import os
import socket
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from cellbox.errors import CellboxError
from cellbox.model.container import ExecSpec, Limits, MountKind, MountSpec, RunSpec, Security

CALL = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *words):
    ctypes.set_errno(0)
    result = libc.syscall(number, *words)
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]
"""
"""Python in the container that calls the kernel by number (x86-64), past every wrapper."""

X86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")
DENIED = {
    "mount": (165, "b'none', b'/mnt', b'tmpfs', 0, None"),
    "umount2": (166, "b'/proc', 2"),
    "unshare(NEWUSER)": (272, "0x10000000"),
    "unshare(NEWNS)": (272, "0x00020000"),
    "setns": (308, "os.open('/proc/1/ns/net', os.O_RDONLY), 0"),
    "clone(NEWUSER)": (56, "0x10000000 | 17, 0, 0, 0, 0"),
    "pivot_root": (155, "b'/', b'/'"),
    "open_tree": (428, "-100, b'/', 1"),
    "fsopen": (430, "b'tmpfs', 0"),
    "move_mount": (429, "-100, b'/', -100, b'/mnt', 0"),
    "keyctl": (250, "0, -3, 0"),
    "add_key": (248, "b'user', b'x', b'y', 1, -3"),
    "bpf": (321, "0, None, 0"),
    "perf_event_open": (298, "None, 0, -1, -1, 0"),
    "userfaultfd": (323, "0"),
    "io_uring_setup": (425, "1, None"),
    "syslog": (103, "2, None, 0"),
    "reboot": (169, "0, 0, 0, None"),
    "init_module": (175, "None, 0, b''"),
    "kexec_load": (246, "0, 0, None, 0"),
    "open_by_handle_at": (304, "-100, None, 0"),
    "sethostname": (170, "b'x', 1"),
    "settimeofday": (164, "None, None"),
    "swapon": (167, "b'/x', 0"),
    "ioperm": (173, "0, 1, 1"),
    "socket(AF_VSOCK)": (41, "40, 1, 0"),
    "socket(AF_ALG)": (41, "38, 5, 0"),
}


# Who it is --------------------------------------------------------------------------------------


def test_root_inside_is_nobody_outside(inside):
    code, output = inside("sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/gid_map")
    lines = output.split("\n")
    assert (code, lines[0]) == (0, "0")
    for line in lines[1:3]:
        first, host, length = map(int, line.split())
        assert first == 0
        assert host != 0, "container root is host root"
        assert length > 1 or os.geteuid() != 0


def test_two_containers_share_no_ids(engine):
    ranges = []
    for name in ("one", "two"):
        engine.containers.create(
            RunSpec(image="host", command=("sleep", "1000"), detach=True), name=name
        )
        engine.containers.start(name)
        pid = engine.containers.get(name).pid
        ranges.append(int(Path(f"/proc/{pid}/uid_map").read_text().split()[1]))
    assert ranges[0] != ranges[1]


def test_capabilities_are_dockers_at_most(inside):
    output = inside("cat", "/proc/self/status")[1]
    status = dict(line.split(":\t") for line in output.splitlines() if ":\t" in line)
    dockers = 0xA80425FB
    assert int(status["CapBnd"], 16) & ~dockers == 0
    assert int(status["CapEff"], 16) & ~dockers == 0
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert status["Seccomp"].strip() == "2"


def test_every_namespace_is_its_own(inside):
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    output = inside("sh", "-c", "for n in " + " ".join(kinds) + "; do readlink /proc/self/ns/$n;"
                    "done")[1]  # fmt: skip
    theirs = set(output.split())
    assert len(theirs) == len(kinds)
    assert not theirs & {os.readlink(f"/proc/self/ns/{kind}") for kind in kinds}


def test_signals_environment_and_mask_start_from_nothing(python_inside, monkeypatch):
    monkeypatch.setenv("CELLBOX_TEST_SECRET", "do-not-tell")
    output = python_inside(
        "import os, signal; print(dict(os.environ)); print(open('/proc/1/status').read());"
        "print(oct(os.umask(0)))"
    )
    assert "do-not-tell" not in output
    ignored = next(line for line in output.splitlines() if line.startswith("SigIgn"))
    # SIGPIPE and SIGXFSZ are ignored by Python itself; what it was started with is another matter
    assert int(ignored.split()[1], 16) & ~((1 << 12) | (1 << 24)) == 0
    assert output.rstrip().endswith("0o22")


def test_a_program_inherits_no_ignored_signals(inside):
    output = inside("cat", "/proc/self/status")[1]
    for name in ("SigIgn", "SigBlk"):
        line = next(line for line in output.splitlines() if line.startswith(name))
        assert int(line.split()[1], 16) == 0, line


def test_no_descriptor_leaks_into_the_container(inside, tmp_path):
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        output = inside("ls", "-l", "/proc/self/fd")[1]
    numbers = {int(line.split("->")[0].split()[-1]) for line in output.splitlines() if "->" in line}
    assert numbers <= {0, 1, 2, 3}, output  # 3 is ls's own look at the folder
    assert str(tmp_path) not in output


# What it sees ------------------------------------------------------------------------------------


def test_the_hosts_secrets_are_not_there(inside, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("do-not-tell")
    code, _ = inside("cat", str(secret))
    assert code != 0
    home = set(inside("sh", "-c", "ls -A /root /home")[1].split()) - {"/home:", "/root:"}
    pythons = {name for path in (sys.prefix, sys.base_prefix) for name in Path(path).parts}
    assert home <= pythons, "there is more than the way to the Python environment"
    shadow = inside("sh", "-c", "cat /etc/shadow; ls -A /var/lib /var/log /run /boot /srv")[1]
    assert "$y$" not in shadow and "$6$" not in shadow
    assert "dpkg" not in shadow


def test_the_hosts_processes_are_not_there(inside):
    output = inside("sh", "-c", "cd /proc; echo [0-9]*")[1]
    assert output.strip() == "1"


def test_proc_1_root_is_the_containers_own(inside, tmp_path):
    (tmp_path / "marker").write_text("host")
    code, _ = inside("ls", f"/proc/1/root{tmp_path}/marker")
    assert code != 0
    assert inside("cat", f"/proc/1/cwd/../../../..{tmp_path}/marker")[0] != 0


def test_hostname_is_its_own_and_cannot_be_changed(inside):
    code, output = inside("sh", "-c", "hostname; hostname stolen; hostname", hostname="cell")
    assert output.startswith("cell\ncell\n")
    assert "must be root" in output or "not permitted" in output
    assert socket.gethostname() != "stolen"


@pytest.mark.parametrize("network", ["none", "default"])
def test_what_listens_on_the_hosts_loopback_is_out_of_reach(python_inside, network):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        output = python_inside(
            "import socket, sys\n"
            "print([name for _, name in socket.if_nameindex()])\n"
            "for host in ('127.0.0.1', '127.1.2.3', '::1'):\n"
            "    try: socket.create_connection((host, int(sys.argv[1])), 2); print('open')\n"
            "    except OSError as error: print(error.errno)\n",
            str(port),
            network=network,
        )
    assert network != "none" or output.startswith("['lo']")
    assert "open" not in output


def test_abstract_sockets_of_the_host_are_out_of_reach(python_inside):
    """CVE-2020-15257: a shim's abstract socket could be reached from a container."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0cellbox-test")
        server.listen()
        output = python_inside(
            "import socket\n"
            "try: socket.socket(socket.AF_UNIX).connect('\\0cellbox-test'); print('open')\n"
            "except OSError as error: print(error.strerror)"
        )
    assert output == "Connection refused\n"


def test_system_v_memory_of_the_host_is_not_there(python_inside):
    libc = ctypes.CDLL(None, use_errno=True)
    segment = libc.shmget(0x0CE11B0C, 4096, 0o1666)
    try:
        output = python_inside("import ctypes; print(ctypes.CDLL(None).shmget(0x0ce11b0c, 0, 0))")
    finally:
        libc.shmctl(segment, 0, None)
    assert segment >= 0
    assert output == "-1\n"


def test_kernel_files_are_masked_or_read_only(python_inside):
    output = python_inside(
        "import os\n"
        "for path in ('/proc/kcore', '/proc/keys', '/proc/timer_list'):\n"
        "    try: print(path, len(open(path, 'rb').read(16)))\n"
        "    except OSError as error: print(path, 0)\n"
        "for path in ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger',\n"
        "             '/proc/irq/default_smp_affinity', '/sys/kernel/uevent_helper',\n"
        "             '/sys/fs/cgroup/cgroup.procs', '/sys/fs/cgroup/memory/release_agent'):\n"
        "    try: os.close(os.open(path, os.O_WRONLY)); print(path, 'opened')\n"
        "    except OSError as error: print(path, error.errno)\n"
    )
    assert "opened" not in output
    masked = [line for line in output.splitlines() if line.split()[0] in
              ("/proc/kcore", "/proc/keys", "/proc/timer_list")]  # fmt: skip
    assert [line.split()[1] for line in masked] == ["0", "0", "0"]


def test_devices_are_the_harmless_ones(python_inside):
    output = python_inside(
        "import os, stat\n"
        "for name in sorted(os.listdir('/dev')):\n"
        "    info = os.stat('/dev/' + name, follow_symlinks=False)\n"
        "    if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode): print(name)\n"
    )
    assert set(output.split()) <= {"null", "zero", "full", "random", "urandom", "tty", "console"}


# What it may ask of the kernel -------------------------------------------------------------------


@X86
def test_calls_that_docker_denies_are_denied(python_inside):
    lines = [f"print({name!r}, call({number}, {words}))" for name, (number, words) in
             DENIED.items()]  # fmt: skip
    output = python_inside(CALL + "\n".join(lines))
    results = dict(line.rsplit(" ", 1) for line in output.splitlines())
    assert results.keys() == DENIED.keys(), output
    refused = {"EPERM", "ENOSYS", "EAFNOSUPPORT"}
    assert {name: why for name, why in results.items() if why not in refused} == {}


@X86
def test_the_filter_knows_the_other_doors(inside, python_inside):
    """The same calls by the x32 numbers, and clone3, whose flags no filter can see."""
    output = python_inside(CALL + "print(call(0x40000000 | 165, b'none', b'/mnt', b'tmpfs', 0, 0));"
                           "print(call(435, None, 0))")  # fmt: skip
    assert output.split() in (["EPERM", "ENOSYS"], ["ENOSYS", "ENOSYS"])


def test_commands_that_docker_denies_fail(inside):
    for words in (["dmesg"], ["mount", "-t", "tmpfs", "none", "/mnt"], ["unshare", "-U", "true"],
                  ["unshare", "-m", "true"], ["umount", "/proc"],
                  ["hostname", "stolen"]):  # fmt: skip
        code, output = inside(*words)
        assert code != 0, words
        assert output, words


def test_mknod_makes_no_device_that_opens(python_inside):
    output = python_inside(
        "import os, stat\n"
        "for major, minor in ((8, 0), (1, 1), (1, 3), (10, 229)):\n"
        "    try:\n"
        "        os.mknod('/tmp/d', 0o666 | stat.S_IFCHR, os.makedev(major, minor))\n"
        "        os.open('/tmp/d', os.O_RDONLY); print('opened')\n"
        "    except OSError as error: print(error.errno)\n"
    )
    assert output.split() == ["1"] * 4


def test_ids_and_limits_of_the_host_cannot_be_written(python_inside):
    output = python_inside(
        "import os\n"
        "for path, text in (('/proc/self/uid_map', '0 0 1'), ('/proc/self/setgroups', 'allow'),\n"
        "                   ('/proc/1/oom_score_adj', '-1000')):\n"
        "    try: os.write(os.open(path, os.O_WRONLY), text.encode()); print('written')\n"
        "    except OSError as error: print(error.errno)\n"
    )
    assert {int(number) for number in output.split()} <= {errno.EPERM, errno.EACCES}


def test_a_terminal_takes_no_words_from_its_program(python_inside):
    """TIOCSTI puts words into the input of whoever reads the terminal next; the container's
    terminal is its own, so its words cannot come out in the user's shell."""
    output = python_inside(
        "import fcntl, os, termios\n"
        "print(os.ttyname(0), os.stat('/dev/pts/0').st_rdev == os.fstat(0).st_rdev)\n"
        "try: fcntl.ioctl(0, termios.TIOCSTI, b'x'); print('pushed')\n"
        "except OSError as error: print(error.errno)\n",
        tty=True,
    )
    name, own = output.split()[:2]
    assert (name, own) in (("/dev/pts/0", "True"), ("/dev/console", "True"))
    mine = python_inside("import os; print(sorted(os.listdir('/dev/pts')))", tty=True)
    assert mine.strip() == "['0', 'ptmx']"


# Attacks on the runtime's own process ------------------------------------------------------------


@pytest.mark.parametrize("number", [3, 7, 8, 9])
def test_a_working_directory_of_a_leaked_descriptor_is_refused(engine, inside, number):
    """CVE-2024-21626: WORKDIR /proc/self/fd/7 was a folder of the host."""
    where = f"/proc/self/fd/{number}"
    try:
        code, output = inside("cat", "../../../../etc/hostname", workdir=where)
    except CellboxError as error:
        assert where in str(error) or "directory" in str(error)
        return
    assert code != 0, output


def test_the_same_by_exec(engine):
    engine.containers.create(RunSpec("host", ("sleep", "1000"), detach=True), name="web")
    engine.containers.start("web")
    for number in range(3, 12):
        spec = ExecSpec(("pwd",), workdir=f"/proc/self/fd/{number}")
        try:
            with engine.containers.exec("web", spec) as stream:
                output = b"".join(data for _, data in stream)
                assert stream.wait() != 0, output
        except CellboxError:
            continue


@pytest.mark.parametrize("entrypoint", ["/proc/self/exe", "/proc/1/exe"])
def test_the_runtime_as_entrypoint_cannot_be_overwritten(inside, entrypoint):
    """CVE-2019-5736, first half: the entry point is the program that starts it, which is kept open
    over the next exec and then written to."""
    before = Path(sys.executable).read_bytes()
    attack = (
        "import os\n"
        "fd = os.open('/proc/self/exe', os.O_RDONLY)\n"
        "os.set_inheritable(fd, True)\n"
        "script = ('for i in 1 2 3; do { echo broken > /proc/self/fd/%d; } 2>&1; done' % fd)\n"
        "print(bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY), flush=True)\n"
        "os.execv('/bin/sh', ['sh', '-c', script])\n"
    )
    try:
        code, output = inside(entrypoint=(entrypoint, "-c", attack))
    except CellboxError as error:
        assert error.exit_code in (126, 127)
    else:
        assert output.startswith("True\n"), "the interpreter's mount is not read-only"
        assert output.count("Permission denied") + output.count("Read-only") == 3, output
    assert Path(sys.executable).read_bytes() == before


def test_what_execs_into_a_container_cannot_be_opened_from_inside(engine):
    """CVE-2019-5736 and CVE-2016-9962: a program inside waits for the one that enters, and opens
    its executable, descriptors and memory to write to them."""
    hunter = (
        "import os\n"
        "print('ready', flush=True)\n"
        "won = []\n"
        "while not os.path.exists('/tmp/stop'):\n"
        "    for pid in set(filter(str.isdecimal, os.listdir('/proc'))) - {str(os.getpid())}:\n"
        "        try:\n"
        "            link = os.readlink(f'/proc/{pid}/exe')\n"
        "            os.close(os.open(f'/proc/{pid}/exe', os.O_WRONLY))\n"
        "            won.append(link)\n"
        "        except OSError: link = ''\n"
        "        if 'python' in link: won.append(link)\n"
        "        for name in ('mem', 'root/.', 'cwd/.', 'fd/3', 'fd/7'):\n"
        "            try: os.close(os.open(f'/proc/{pid}/{name}', os.O_RDONLY))\n"
        "            except OSError: continue\n"
        "            if 'python' in link: won.append(name)\n"
        "print('won', won, flush=True)\n"
    )
    made = engine.containers.create(
        RunSpec("host", ("python3", "-c", hunter), detach=True), name="hunter"
    )
    engine.containers.start(made.id)
    for _ in range(40):
        with engine.containers.exec("hunter", ExecSpec(("true",))) as stream:
            assert list(stream) == []
            assert stream.wait() == 0
    with engine.containers.exec("hunter", ExecSpec(("touch", "/tmp/stop"))) as stream:
        stream.wait()
    engine.containers.wait("hunter")
    said = b"".join(data for _, _, data in engine.containers.logs("hunter")).decode()
    assert said == "ready\nwon []\n"


def test_the_interpreter_of_the_host_cannot_be_written(inside):
    code, _ = inside("sh", "-c", "echo broken > $(readlink -f $(command -v python3))")
    assert subprocess.run(["/usr/bin/env", "python3", "-c", ""]).returncode == 0
    assert code in (0, 1, 2)  # its own copy, at most


# Images that are made to attack ------------------------------------------------------------------


def _image(*members: tuple[str, dict[str, object], bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        for name, fields, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            for key, value in fields.items():
                setattr(member, key, value)
            out.addfile(member, io.BytesIO(data))
    buffer.seek(0)
    return buffer


@pytest.fixture
def hostile(engine, busybox_tar):
    """``hostile(member...)`` is BusyBox with these members over it, as an image ``hostile``."""

    def make(*members, changes=()):
        with tarfile.open(busybox_tar) as base:
            program = base.extractfile("bin/busybox").read()
        folders = [(name, {"type": tarfile.DIRTYPE}, b"") for name in ("bin", "tmp")]
        shell = [
            ("bin/busybox", {}, program),
            ("bin/sh", {"type": tarfile.SYMTYPE, "linkname": "busybox"}, b""),
        ]
        tree = _image(*folders, *shell, *members)
        return engine.images.import_(tree, name="hostile", changes=list(changes))

    return make


def test_a_setuid_program_in_a_layer_gives_container_root_only(engine, hostile, inside):
    program = Path("/bin/busybox").read_bytes() if Path("/bin/busybox").exists() else b""
    if not program:
        pytest.skip("needs busybox to be installed")
    hostile(("bin/become", {"mode": 0o4755}, program))
    code, output = inside(
        "/bin/busybox", "sh", "-c", "cp /bin/become /tmp/x; id -u; cat /proc/self/uid_map",
        image="hostile", user="1000",
    )  # fmt: skip
    assert output.split()[0] == "1000"
    assert int(output.split()[2]) != 0, "ids inside are not those of the host"


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_a_link_in_place_of_a_kernel_folder_leads_nowhere(engine, hostile, inside, tmp_path, name):
    """CVE-2019-19921, CVE-2026-41579: mounts and devices made where a link of the image says."""
    trap = tmp_path / "trap"
    trap.mkdir()
    hostile((name, {"type": tarfile.SYMTYPE, "linkname": f"../../../..{trap}"}, b""))
    try:
        inside("/bin/busybox", "true", image="hostile")
    except CellboxError as error:
        assert str(error)
    assert list(trap.iterdir()) == []


def test_a_volume_on_a_link_stays_in_the_container(engine, hostile, inside, tmp_path):
    """CVE-2021-30465: the target of a mount is a link of the image that points out of it."""
    trap, shared = tmp_path / "trap", tmp_path / "shared"
    trap.mkdir()
    shared.mkdir()
    hostile(("data", {"type": tarfile.SYMTYPE, "linkname": str(trap)}, b""))
    mount = MountSpec(MountKind.BIND, "/data", str(shared))
    try:
        inside("/bin/busybox", "touch", "/data/x", image="hostile", mounts=(mount,))
    except CellboxError as error:
        assert str(error)
    assert list(trap.iterdir()) == []


def test_a_fifo_for_passwd_does_not_hang_the_engine(engine, hostile, inside):
    """A FIFO at /etc/passwd and USER: dockerd 20.10 waits for ever."""
    hostile(
        ("etc", {"type": tarfile.DIRTYPE}, b""),
        ("etc/passwd", {"type": tarfile.FIFOTYPE}, b""),
    )
    with pytest.raises(CellboxError):
        inside("/bin/busybox", "true", image="hostile", user="somebody")


@pytest.mark.parametrize("user", ["4294967296", "-1", "99999999999999999999", "nobodyhere"])
def test_a_user_that_is_none_is_refused_and_never_root(engine, busybox, inside, user):
    """CVE-2024-40635: a number that does not fit became 0."""
    with pytest.raises(CellboxError):
        inside("id", image="busybox", user=user)


# Limits ------------------------------------------------------------------------------------------


def _needs_controllers(engine, *names: str) -> None:
    if missing := set(names) - set(engine.info().cgroup_controllers):
        pytest.skip(f"needs the control group controllers {', '.join(sorted(missing))}")


def test_a_fork_bomb_stays_inside(engine, inside):
    _needs_controllers(engine, "pids")
    code, output = inside(
        "sh", "-c", "f() { f | f & }; f; for i in 1 2 3 4 5 6 7 8; do sleep 0 || echo full; done",
        limits=Limits(pids=32),
    )  # fmt: skip
    assert subprocess.run(["true"]).returncode == 0
    assert inside("echo", "usable")[1] == "usable\n"


def test_a_memory_hog_is_killed_and_the_host_is_not(engine):
    _needs_controllers(engine, "memory")
    limits = Limits(memory=64 << 20, memory_swap=64 << 20)
    made = engine.containers.create(
        RunSpec("host", ("python3", "-c", "x = bytearray(400 << 20)"), limits=limits), name="hog"
    )
    engine.containers.start(made.id)
    assert engine.containers.wait("hog") == 137
    assert engine.containers.get("hog").oom_killed


def test_shared_memory_is_bounded(inside):
    code, output = inside("dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=80")
    assert code == 1
    assert "No space left" in output


def test_a_read_only_root_is_that(inside):
    code, output = inside("touch", "/usr/x", security=Security(read_only=True))
    assert code != 0
    assert "Read-only" in output


def test_writes_to_the_image_host_stay_in_the_container(inside):
    name = f"cellbox-test-{os.getpid()}"
    code, output = inside("sh", "-c", f"echo x > /usr/bin/{name}; cat /usr/bin/{name}")
    assert (code, output) == (0, "x\n")
    assert not Path(f"/usr/bin/{name}").exists()


# The store --------------------------------------------------------------------------------------


def test_nobody_else_can_enter_the_store(engine, store, inside):
    """CVE-2021-41091: a folder that anybody may enter lets local users run an image's setuid
    programs."""
    inside("true")
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    where = json.dumps(str(store))
    assert where not in json.dumps(inside("cat", "/proc/self/mountinfo")[1]) or (
        inside("ls", str(store))[0] != 0
    )
