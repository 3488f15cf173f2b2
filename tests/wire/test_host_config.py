"""HostConfig, asked for and shown."""

from __future__ import annotations

from typing import Any

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.container import (
    DeviceSpec,
    Dns,
    Limits,
    LogConfig,
    RestartPolicy,
    RunSpec,
    Security,
    Ulimit,
)
from cellbox.wire.fields import Fields
from cellbox.wire.host_config import (
    EGRESS,
    host_config_body,
    host_config_json,
    limits_json,
    read_host_config,
    read_limits,
    read_restart,
    restart_json,
)


def fields(**members: object) -> Fields:
    return Fields(members, "HostConfig", "HostConfig")


def read(**members: object) -> dict[str, Any]:
    return read_host_config(fields(**members))


def refusal(**members: object) -> str:
    with pytest.raises(InvalidArgument) as caught:
        read(**members)
    return str(caught.value)


def test_nothing_asked_is_every_default():
    found = RunSpec("w", **read())
    assert found == RunSpec("w")
    assert RunSpec("w", **read(**host_config_body(found))) == found


def test_what_inspect_shows_is_a_request_too():
    """Clients make a container anew of what they inspected."""
    spec = RunSpec("w", init=True, sysctls={"net.a": "1"}, ipc="host", shm_size=5)
    assert RunSpec("w", **read(**host_config_json(spec))) == spec


def test_inspect_has_the_members_that_templates_ask_for():
    told = host_config_json(RunSpec("w"))
    assert (told["IpcMode"], told["ShmSize"], told["CgroupnsMode"]) == (
        "private",
        64 << 20,
        "private",
    )
    assert (told["Dns"], told["Devices"], told["CpuQuota"]) == ([], [], 0)
    assert not {"Mounts", "Tmpfs", "Sysctls", "Init", "Annotations"} & set(told)
    assert "Runtime" not in host_config_body(RunSpec("w"))


@pytest.mark.parametrize(
    ("members", "field", "value"),
    [
        ({"NetworkMode": ""}, "network", "default"),
        ({"NetworkMode": "container:x"}, "network", "container:x"),
        ({"LogConfig": {"Type": "", "Config": {"a": "1"}}}, "log", LogConfig(options={"a": "1"})),
        ({"Init": None}, "init", False),
        ({"ShmSize": 0}, "shm_size", None),
        ({"Devices": [{"PathOnHost": "/d"}]}, "devices", (DeviceSpec("/d", "/d", "rwm"),)),
        (
            {"Devices": [{"PathOnHost": "/d", "PathInContainer": "/e", "CgroupPermissions": "r"}]},
            "devices",
            (DeviceSpec("/d", "/e", "r"),),
        ),
        ({"Ulimits": [{"Name": "core", "Hard": -1}]}, "ulimits", (Ulimit("core", 0, -1),)),
        (
            {"Dns": ["1.1.1.1"], "DnsSearch": ["a"], "DnsOptions": ["ndots:1"]},
            "dns",
            Dns(("1.1.1.1",), ("a",), ("ndots:1",)),
        ),
        ({"RestartPolicy": {"Name": ""}}, "restart", RestartPolicy()),
    ],
)
def test_members_and_their_defaults(members, field, value):
    assert read(**members)[field] == value


# Resources ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "limits"),
    [
        ({"Memory": 0, "NanoCpus": 0, "OomScoreAdj": 0}, Limits()),
        ({"Memory": 5, "MemorySwap": -1, "MemoryReservation": 3},
         Limits(memory=5, memory_swap=-1, memory_reservation=3)),
        ({"NanoCpus": 1_500_000_000, "CpuShares": 2, "CpusetCpus": "0-1"},
         Limits(cpus=1.5, cpu_shares=2, cpuset="0-1")),
        ({"CpuQuota": 25_000, "CpuPeriod": 50_000}, Limits(cpus=0.5)),
        ({"CpuQuota": 25_000}, Limits(cpus=0.25)),
        ({"CpuQuota": -1}, Limits()),
        ({"CpuPeriod": 50_000}, Limits()),
        ({"PidsLimit": 7}, Limits(pids=7)),
        ({"PidsLimit": None}, Limits()),
    ],
)  # fmt: skip
def test_limits(members, limits):
    assert read(**members)["limits"] == limits
    assert read_limits(fields(**limits_json(limits))) == limits


@pytest.mark.parametrize("none", [0, -1, -5])
def test_no_limit_of_tasks(none):
    assert read(PidsLimit=none)["limits"].pids is None
    assert read_limits(fields(PidsLimit=none)).pids == -1


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"NanoCpus": 1, "CpuPeriod": 50_000},
         "Conflicting options: Nano CPUs and CPU Period cannot both be set."),
        ({"NanoCpus": 1, "CpuQuota": 50_000},
         "Conflicting options: Nano CPUs and CPU Quota cannot both be set."),
        ({"CpuPeriod": 5}, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s "
         "(i.e. 1000000)"),
        ({"CpuQuota": 999}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
    ],
)  # fmt: skip
def test_quotas_are_checked(members, reason):
    assert refusal(**members) == reason


@pytest.mark.parametrize("policy", [RestartPolicy(), RestartPolicy("on-failure", 3)])
def test_restart_policies(policy):
    assert read_restart(fields(RestartPolicy=restart_json(policy))) == policy


def test_a_policy_may_be_left_alone():
    assert read_restart(fields(RestartPolicy={"Name": "", "MaximumRetryCount": 0})) is None
    assert read_restart(fields()) is None
    assert read(RestartPolicy={"MaximumRetryCount": 2})["restart"] == RestartPolicy("no", 2)


# Security -------------------------------------------------------------------------------------

PROFILE = '{"defaultAction":"SCMP_ACT_ERRNO","x":"a=b:c"}'


@pytest.mark.parametrize(
    ("options", "security"),
    [
        (["no-new-privileges"], Security(no_new_privileges=True)),
        (["no-new-privileges:true"], Security(no_new_privileges=True)),
        (["no-new-privileges=false"], Security()),
        (["seccomp=unconfined"], Security(seccomp="unconfined")),
        (["seccomp:unconfined"], Security(seccomp="unconfined")),
        (["seccomp=builtin"], Security()),
        ([f"seccomp={PROFILE}"], Security(seccomp=PROFILE)),
        ([f"seccomp:{PROFILE}"], Security(seccomp=PROFILE)),
        (["seccomp={\n}"], Security(seccomp="{\n}")),
        (["label=disable", "label:type:x", "apparmor=unconfined", "disable"], Security()),
        (["systempaths=unconfined"], Security(systempaths_unconfined=True)),
    ],
)
def test_security_options(options, security):
    assert read(SecurityOpt=options)["security"] == security
    assert read(**host_config_body(RunSpec("w", security=security)))["security"] == security


@pytest.mark.parametrize(
    ("option", "number"),
    [("x", 1), ("", 1), ("x=y", 2), ("no-new-privileges=maybe", 2), ("systempaths=x", 2)],
)
def test_unknown_security_options_are_refused(option, number):
    assert refusal(SecurityOpt=[option]) == f'invalid --security-opt {number}: "{option}"'


def test_no_masks_at_all_are_an_empty_list():
    assert read(MaskedPaths=[], ReadonlyPaths=[])["security"].systempaths_unconfined
    assert not read(MaskedPaths=None)["security"].systempaths_unconfined
    assert not read(MaskedPaths=["/proc/kcore"])["security"].systempaths_unconfined
    told = host_config_body(RunSpec("w", security=Security(systempaths_unconfined=True)))
    assert (told["MaskedPaths"], told["ReadonlyPaths"], told["SecurityOpt"]) == ([], [], None)


@pytest.mark.parametrize(("told", "mode"), [("", "private"), ("host", "host"), ("x", "x")])
def test_user_namespaces(told, mode):
    security = read(UsernsMode=told)["security"]
    assert security.userns == mode
    assert host_config_body(RunSpec("w", security=security))["UsernsMode"] == told


# Annotations ----------------------------------------------------------------------------------


def test_what_docker_has_no_member_for_is_annotated():
    spec = RunSpec("w", egress=("dns:pypi.org", "10.0.0.0/8"), annotations={"k": "v"})
    told = host_config_body(spec)
    assert told["Annotations"] == {"k": "v", EGRESS: "dns:pypi.org,10.0.0.0/8"}
    found = read(**told)
    assert (found["egress"], found["annotations"]) == (spec.egress, {"k": "v"})


def test_wrong_types_are_refused():
    assert refusal(Memory="64m") == (
        "json: cannot unmarshal string into Go struct field HostConfig.HostConfig.Memory "
        "of type int64"
    )
    assert "LogConfig.HostConfig.LogConfig.Config" in refusal(LogConfig={"Config": []})
