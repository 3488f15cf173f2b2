"""What a build tells while it goes on: the text of Docker's classic builder, piece by piece."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from cellbox.engine import Tell
from cellbox.model.image import Progress

_ERROR = "\x1b[91m{}\x1b[0m"


def _nobody(piece: str | Progress) -> None:
    """Nobody listens."""


class Report:
    """Tells ``tell`` of a build of ``total`` steps."""

    def __init__(self, tell: Tell | None, total: int) -> None:
        self.tell = tell or _nobody
        self._total = total
        self._step = 0

    def step(self, text: str) -> None:
        self._step += 1
        self.tell(f"Step {self._step}/{max(self._total, self._step)} : {text}\n")

    def triggers(self, count: int) -> None:
        self.tell(f"# Executing {count} build trigger{'s' * (count != 1)}\n")

    def cached(self) -> None:
        self.tell(" ---> Using cache\n")

    def image(self, short_id: str) -> None:
        self.tell(f" ---> {short_id}\n")

    def running(self, container: str) -> None:
        self.tell(f" ---> Running in {container[:12]}\n")

    def removed(self, container: str) -> None:
        self.tell(f"Removing intermediate container {container[:12]}\n")

    def unused(self, names: Iterable[str]) -> None:
        listed = " ".join(sorted(names))
        if listed:
            self.tell(f"[Warning] One or more build-args [{listed}] were not consumed\n")

    def built(self, short_id: str) -> None:
        self.tell(f"Successfully built {short_id}\n")

    def tagged(self, name: str) -> None:
        self.tell(f"Successfully tagged {name}\n")


class Output:
    """What a command writes, as text; what it writes to stderr is red."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        make = codecs.getincrementaldecoder("utf-8")
        self._decoders = {name: make("replace") for name in ("stdout", "stderr")}

    def write(self, stream: str, data: bytes, final: bool = False) -> None:
        text = self._decoders[stream].decode(data, final)
        if text:
            self._tell(_ERROR.format(text) if stream == "stderr" else text)

    def end(self) -> None:
        for stream in self._decoders:
            self.write(stream, b"", final=True)
