"""The default seccomp profile: which system calls a container may make.

An allow list that denies what Docker's denies (moby ``profiles/seccomp``, the state of 2026). Names
that a kernel, an architecture or libseccomp does not know are passed over, so one table serves all.
Calls that appear in no group below fail with EPERM, those newer than the table with ENOSYS, so that
C libraries fall back. What is left out, and why:

- new namespaces and mounts (unshare, setns, mount, fsopen, pivot_root, open_tree, clone with
  CLONE_NEW*): a user namespace of one's own opens kernel code that was written for root to trust;
- the kernel's own key store (keyctl, add_key, request_key): it has no namespaces;
- programs for the kernel (bpf, userfaultfd, perf_event_open, io_uring): each a row of past
exploits,
  and io_uring makes calls that no filter sees;
- the machine (reboot, kexec, modules, swap, clocks, ports, acct, quotas, syslog);
- other processes' insides beyond ptrace (kcmp, pidfd_getfd, process_madvise), and memory placement
  over NUMA nodes (mbind, move_pages), which tells of neighbours;
- opening files by handle (open_by_handle_at), which leaves the container's root (Shocker, 2014);
- AF_ALG and AF_VSOCK sockets: kernel cryptography, and the way to the hypervisor;
- what nobody calls any more (uselib, ustat, sysfs, _sysctl, nfsservctl, vm86, lookup_dcookie).

A capability gives back the calls it is for.
"""

from __future__ import annotations

from errno import ENOSYS

from cellbox.linux.seccomp_profile import (
    ALLOW,
    EPERM,
    ERRNO,
    Comparison,
    Condition,
    Profile,
    Rule,
)

_FILES = """
access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat
faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32
fchownat fcntl fcntl64 fdatasync flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate
ftruncate64 futimesat getcwd getdents getdents64 ioctl lchown lchown32 link linkat listmount
_llseek lseek lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat
openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink
readlinkat readv rename renameat renameat2 rmdir sendfile sendfile64 splice stat stat64 statfs
statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs tee truncate truncate64
umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev cachestat
"""
_ATTRIBUTES = """
fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat
llistxattr lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat
"""
_WAITING = """
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
epoll_wait_old eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1
inotify_rm_watch _newselect poll ppoll ppoll_time64 pselect6 pselect6_time64 select signalfd
signalfd4
io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit
"""
_MEMORY = """
brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall
mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free
pkey_mprotect process_mrelease remap_file_pages
"""
_PROCESSES = """
execve execveat exit exit_group fork vfork wait4 waitid waitpid getpgid getpgrp getpid getppid
getsid gettid setpgid setsid getpriority setpriority ioprio_get ioprio_set getrlimit ugetrlimit
setrlimit prlimit64 getrusage times prctl get_robust_list set_robust_list get_thread_area
set_thread_area set_tid_address rseq pidfd_open pidfd_send_signal restart_syscall uretprobe
futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake
sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity
sched_setattr sched_setparam sched_setscheduler sched_yield
"""
_IDENTITY = """
capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid
getresgid32 getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid
setgid32 setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32
setreuid setreuid32 setuid setuid32
landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp
"""
_SIGNALS = """
kill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn tgkill
tkill
"""
# adjtimex and its like only read the clock without CAP_SYS_TIME.
_TIME = """
adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer
time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
timerfd_settime64
"""
_TALK = """
ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop
semtimedop_time64 shmat shmctl shmdt shmget
accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg
recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair
"""
_MACHINE = "getcpu getrandom riscv_hwprobe sysinfo uname"

_BY_CAPABILITY = {
    "DAC_READ_SEARCH": "open_by_handle_at",
    "SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie
        lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount
        open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog
        umount umount2 unshare
    """,
    "SYS_BOOT": "reboot",
    "SYS_CHROOT": "chroot",
    "SYS_MODULE": "delete_module finit_module init_module",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "SYS_RAWIO": "ioperm iopl",
    "SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "SYS_TTY_CONFIG": "vhangup",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "SYSLOG": "syslog",
    "BPF": "bpf",
    "PERFMON": "perf_event_open",
}
_BY_MACHINE = {
    ("ppc64le",): "sync_file_range2 swapcontext",
    ("arm", "arm64"): """
        arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls
    """,
    ("amd64", "x32"): "arch_prctl",
    ("amd64", "x32", "x86"): "modify_ldt",
    ("s390", "s390x"): "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    ("riscv64",): "riscv_flush_icache",
}

AF_ALG, AF_VSOCK = 38, 40
# Those the kernel has, less AF_ALG, AF_VSOCK and what newer kernels took out (12 DECnet, 19 Econet,
# 20 ATMSVC, 23 IrDA, 25 Wanpipe, 34 ISDN, 37 CAIF).
_FAMILIES = (*range(1, 12), *range(13, 19), 21, 22, 24, *range(26, 34), 35, 36, 39, *range(41, 46))
# PER_LINUX, PER_LINUX32, each with UNAME26, and asking what is in force.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. NEWTIME cannot be asked of clone.
_NEW_NAMESPACES = 0x7E020000

_S390 = ("s390", "s390x")
_ADMIN = ("SYS_ADMIN",)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _one_of(name: str, values: tuple[int, ...]) -> tuple[Rule, ...]:
    return tuple(Rule((name,), comparisons=(Comparison(0, value),)) for value in values)


def _clone(flags: int, includes: Condition, machines: tuple[str, ...]) -> Rule:
    """clone(2) without new namespaces; ``flags`` is the argument that holds them."""
    plain = Comparison(flags, _NEW_NAMESPACES, "MASKED_EQ", 0)
    excludes = Condition(machines=machines, capabilities=_ADMIN)
    return Rule(("clone",), ALLOW, EPERM, (plain,), includes, excludes)


PROFILE = Profile(
    default_action=ERRNO,
    default_errno=EPERM,
    architectures={
        "X86_64": ("X86", "X32"),
        "AARCH64": ("ARM",),
        "S390X": ("S390",),
        "PPC64LE": (),
        "RISCV64": (),
    },
    rules=(
        *(
            Rule(_names(group))
            for group in (_FILES, _ATTRIBUTES, _WAITING, _MEMORY, _PROCESSES, _IDENTITY)
        ),
        *(Rule(_names(group)) for group in (_SIGNALS, _TIME, _TALK, _MACHINE)),
        # Before 4.8 a tracer could get around the filter.
        Rule(
            ("process_vm_readv", "process_vm_writev", "ptrace"), includes=Condition(kernel=(4, 8))
        ),
        *_one_of("socket", _FAMILIES),
        *_one_of("personality", _PERSONALITIES),
        *(
            Rule(_names(group), includes=Condition(machines=machines))
            for machines, group in _BY_MACHINE.items()
        ),
        *(
            Rule(_names(group), includes=Condition(capabilities=(name,)))
            for name, group in _BY_CAPABILITY.items()
        ),
        _clone(0, Condition(), _S390),
        _clone(1, Condition(machines=_S390), ()),
        # Its flags are behind a pointer that no filter can follow; the C library falls back to
        # clone.
        Rule(("clone3",), ERRNO, ENOSYS, excludes=Condition(capabilities=_ADMIN)),
    ),
)
"""Docker's default profile as a value."""
