"""Running a container's health checks, and telling what came of them.

``health`` decides when to ask and what an answer means; this module starts the probes as processes
in the container, gives up on one that takes too long, and writes ``health.json``.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from cellbox.containers import health, records
from cellbox.containers.messages import Process
from cellbox.containers.task import Task
from cellbox.model.container import Health, HealthCheck

if TYPE_CHECKING:
    from cellbox.containers.shim import Shim

_SHELL = ("/bin/sh", "-c")
_TIMED_OUT = -1


class Probes:
    """The health checks of one run."""

    def __init__(self, shim: Shim, check: HealthCheck) -> None:
        self._shim = shim
        self.monitor = health.Monitor(check, _SHELL, time.monotonic())
        self._output = b""
        self._began = 0.0
        self._probe: Task | None = None
        self._save()
        self._wait()

    def _wait(self) -> None:
        self._shim.later("probe", max(0.0, self.monitor.due() - time.monotonic()), self._start)

    def _start(self) -> None:
        shim = self._shim
        if shim.probes is not self or shim.main is None:
            return
        if shim.state.paused:
            shim.later("probe", self.monitor.interval, self._start)
            return
        self._output, self._began = b"", time.time()
        base = shim.bundle.process
        process: Process = replace(base, argv=self.monitor.command, tty=False, stdin=False)
        try:
            self._probe = shim.start_exec(process, None, self._hear)
        except OSError as error:  # out of processes or descriptors: not well, but not our end
            self._output = str(error).encode()
            self._conclude(_TIMED_OUT)
            return
        self._probe.on_end = self._ended
        shim.later("probe-timeout", self.monitor.timeout, self._give_up)

    def _hear(self, _stream: str, data: bytes) -> None:
        self._output = (self._output + data)[: health.OUTPUT_LIMIT]

    def _give_up(self) -> None:
        if self._probe is None or self._shim.probes is not self:
            return
        self._output = f"Health check exceeded timeout ({self.monitor.timeout:g}s)".encode()
        self._probe.on_end = None
        self._probe.signal(signal.SIGKILL)
        self._conclude(_TIMED_OUT)

    def _ended(self, probe: Task) -> None:
        if self._shim.probes is not self:  # of an earlier run
            return
        self._shim.deadlines.pop("probe-timeout", None)
        self._conclude(probe.exit_code or 0)

    def _conclude(self, code: int) -> None:
        self._probe = None
        entry = {
            "start": self._began,
            "end": time.time(),
            "exit_code": code,
            "output": self._output.decode("utf-8", "replace"),
        }
        changed = self.monitor.result(time.monotonic(), code, entry)
        self._save()
        if changed:  # told only when it can be looked up
            self._shim.event(f"health_status: {self.monitor.status}")
        if self.monitor.status == health.UNHEALTHY:
            self._shim.end_unwell()
        self._wait()

    def _save(self) -> None:
        monitor = self.monitor
        facts = Health(monitor.status, monitor.failing_streak, tuple(monitor.log))
        try:
            records.write(os.path.join(self._shim.run_directory, records.HEALTH), facts)
        except OSError:  # a full disk must not stop the container
            pass


def begin(shim: Shim) -> Probes | None:
    """Start asking, where the container has a health check."""
    check = shim.bundle.health
    return Probes(shim, check) if check is not None and health.monitored(check) else None
