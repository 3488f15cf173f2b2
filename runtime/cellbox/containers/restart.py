"""When to start a container again: Docker's restart policies, and one for health; pure.

After an exit the wait is 100 ms, doubled each time up to a minute; a run of ten seconds or more
makes it start over (moby, ``restartmanager``).
"""

from __future__ import annotations

from cellbox.model.container import RestartPolicy

FIRST_WAIT = 0.1
LONGEST_WAIT = 60.0
GOOD_RUN = 10.0


ON_FAILURE, ON_UNHEALTHY = "on-failure", "on-unhealthy"
COUNTED = frozenset({ON_FAILURE, ON_UNHEALTHY})
"""The policies that may say how often."""


def wanted(
    policy: RestartPolicy,
    exit_code: int,
    restarts: int,
    asked_to_stop: bool,
    *,
    unwell: bool = False,
) -> bool:
    """Is the container to be started again? ``restarts`` counts those since it was last started by
    hand; a container that somebody stopped or killed stays down. One that was ended as it was
    ``unwell`` has failed, whatever its exit code."""
    if asked_to_stop or policy.name in ("", "no"):
        return False
    if policy.name in COUNTED:
        return (exit_code != 0 or unwell) and _may_go_on(policy, restarts)
    return True


def ends_unwell(policy: RestartPolicy, restarts: int) -> bool:
    """Is a container that runs and is unhealthy to be ended, and started again?"""
    return policy.name == ON_UNHEALTHY and _may_go_on(policy, restarts)


def _may_go_on(policy: RestartPolicy, restarts: int) -> bool:
    return policy.retries == 0 or restarts < policy.retries


def wait(previous: float, ran: float) -> float:
    """Seconds to wait, after a run of ``ran`` seconds that had been waited ``previous`` seconds
    for."""
    if previous == 0 or ran >= GOOD_RUN:
        return FIRST_WAIT
    return min(previous * 2, LONGEST_WAIT)
