"""When to start a container again: Docker's restart policies; pure.

After an exit the wait is 100 ms, doubled each time up to a minute; a run of ten seconds or more
makes it start over (moby, ``restartmanager``).
"""

from __future__ import annotations

from cellbox.model.container import RestartPolicy

FIRST_WAIT = 0.1
LONGEST_WAIT = 60.0
GOOD_RUN = 10.0


def wanted(policy: RestartPolicy, exit_code: int, restarts: int, asked_to_stop: bool) -> bool:
    """Is the container to be started again? ``restarts`` counts those since it was last started by
    hand; a container that somebody stopped or killed stays down."""
    if asked_to_stop or policy.name in ("", "no"):
        return False
    if policy.name == "on-failure":
        return exit_code != 0 and (policy.retries == 0 or restarts < policy.retries)
    return True


def wait(previous: float, ran: float) -> float:
    """Seconds to wait, after a run of ``ran`` seconds that had been waited ``previous`` seconds
    for."""
    if previous == 0 or ran >= GOOD_RUN:
        return FIRST_WAIT
    return min(previous * 2, LONGEST_WAIT)
