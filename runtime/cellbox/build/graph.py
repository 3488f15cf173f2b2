"""The stages of a build: which there are, what each begins from, and which the target needs; pure.

A stage needs the one that its FROM names, and those that its COPYs, ADDs and RUNs
take files from. Whatever needs a later stage, or itself, is wrong, so the graph has no loops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cellbox.build.instructions import Copy, From, Instruction, Label, Run
from cellbox.build.parser import Node
from cellbox.build.scope import Arguments, Variables
from cellbox.build.suggestions import suggestion
from cellbox.build.syntax import Dockerfile, Stage
from cellbox.errors import DockerfileError, InvalidArgument

SCRATCH = "scratch"

Origin = int | str
"""Where files or a file system come from: the index of a stage, or the name of an image."""


@dataclass(frozen=True)
class Vertex:
    """A stage with its FROM resolved: ``base`` is a stage, an image, or ``scratch``."""

    index: int
    stage: Stage
    start: From
    base: Origin
    needs: frozenset[int]

    @property
    def name(self) -> str:
        """The name, else the index, as ``--target`` has it."""
        return self.start.name or str(self.index)


@dataclass(frozen=True)
class Graph:
    """All stages, and the index of the one that is wanted."""

    vertices: tuple[Vertex, ...]
    target: int

    def order(self) -> list[Vertex]:
        """The stages that the target needs, each after those that it needs itself."""
        wanted = {self.target}
        for vertex in reversed(self.vertices[: self.target + 1]):
            if vertex.index in wanted:
                wanted |= vertex.needs
        return [vertex for vertex in self.vertices if vertex.index in wanted]

    def origin(self, text: str, of: Vertex) -> Origin:
        """What ``--from=text`` means in a stage. Raises InvalidArgument."""
        return _origin(text, of.index, [vertex.stage for vertex in self.vertices])


def graph(
    dockerfile: Dockerfile,
    arguments: Arguments,
    target: str = "",
    labels: Mapping[str, str] | None = None,
) -> Graph:
    """The stages of a Dockerfile, the ``target`` with ``labels`` at its end. Raises
    DockerfileError, and InvalidArgument for a target that is not there."""
    if not dockerfile.stages:
        raise InvalidArgument("the Dockerfile has no build stage: it needs a FROM")
    variables = Variables(arguments.for_from, dockerfile.escape)
    vertices = [
        _vertex(index, dockerfile.stages, variables) for index in range(len(dockerfile.stages))
    ]
    index = _target(vertices, target)
    if labels:
        vertex = vertices[index]
        vertices[index] = replace(vertex, stage=_labelled(vertex.stage, labels))
    return Graph(tuple(vertices), index)


def _labelled(stage: Stage, labels: Mapping[str, str]) -> Stage:
    """A stage that ends with a LABEL, which is how the classic builder sets labels."""
    text = " ".join(["LABEL", *(f"{name}={value}" for name, value in sorted(labels.items()))])
    line = stage.instructions[-1].line if stage.instructions else stage.start.line
    label = Label(Node("label", "LABEL", text, line, line), tuple(sorted(labels.items())))
    return Stage(stage.start, (*stage.instructions, label))


def _vertex(index: int, stages: Sequence[Stage], variables: Variables) -> Vertex:
    stage = stages[index]
    start = stage.start
    try:
        base, platform = variables.one(start.base), variables.one(start.platform)
        if not base:
            raise InvalidArgument(f"base name ({start.base}) should not be blank")
        found = _named(base, stages[:index])
        needs = {found} if found is not None else set()
    except InvalidArgument as error:
        raise DockerfileError(str(error), start.line) from None
    needs |= {origin for origin in _origins(index, stages) if isinstance(origin, int)}
    resolved = From(start.node, base, start.name, platform)
    return Vertex(index, stage, resolved, base if found is None else found, frozenset(needs))


def _origins(index: int, stages: Sequence[Stage]) -> list[Origin]:
    found = []
    for step in stages[index].instructions:
        for text in _named_by(step):
            try:
                found.append(_origin(text, index, stages))
            except InvalidArgument as error:
                raise DockerfileError(str(error), step.line) from None
    return found


def _named_by(step: Instruction) -> tuple[str, ...]:
    """The stages and images that a step takes files from."""
    if isinstance(step, Run):
        return step.origins
    return (step.origin,) if isinstance(step, Copy) and step.origin else ()


def _origin(text: str, index: int, stages: Sequence[Stage]) -> Origin:
    found = _named(text, stages[:index])
    if found is not None:
        return found
    if text.isdecimal():
        if int(text) >= index:
            raise InvalidArgument(f"invalid from flag value {text}: invalid stage index")
        return int(text)
    if _named(text, stages[index : index + 1]) is not None:
        raise InvalidArgument(f"circular dependency detected on stage: {text}")
    if _named(text, stages[index:]) is not None:
        raise InvalidArgument(f"stage {text} comes later: only what is above can be copied from")
    return text


def _named(name: str, stages: Sequence[Stage]) -> int | None:
    """The last of ``stages`` that has this name."""
    names = [stage.start.name for stage in stages]
    wanted = name.lower()
    return len(names) - 1 - names[::-1].index(wanted) if wanted in names else None


def _target(vertices: Sequence[Vertex], target: str) -> int:
    if not target:
        return len(vertices) - 1
    names = {str(vertex.index): vertex.index for vertex in vertices}
    names |= {vertex.start.name: vertex.index for vertex in vertices if vertex.start.name}
    if target.lower() not in names:
        near = suggestion(target, [name for name in names if not name.isdecimal()])
        raise InvalidArgument(f'target stage "{target}" could not be found{near}')
    return names[target.lower()]


def steps(vertices: Sequence[Vertex], arguments: int) -> int:
    """How many steps these stages have, with the global ARGs."""
    return arguments + sum(1 + len(vertex.stage.instructions) for vertex in vertices)
