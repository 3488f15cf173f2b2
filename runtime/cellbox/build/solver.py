"""Doing what a Dockerfile says: the stages that the target needs, step by step, each an image.

A step that was done before, with the same inputs on the same image, is found in the cache. One that
changes the config only makes an image without a container; COPY and ADD unpack a tar into a
container that never runs; RUN runs one, and what it has changed becomes a layer. No container is
left by a step that fails or is interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from cellbox.build import config as configs
from cellbox.build import context as contexts
from cellbox.build import copies, copying, graph, parser, runs, scope, syntax
from cellbox.build.bench import Bench, Stop, sweep
from cellbox.build.cache import Cache
from cellbox.build.context import Context
from cellbox.build.graph import SCRATCH, Graph, Vertex
from cellbox.build.instructions import (
    Arg,
    Cmd,
    Copy,
    Instruction,
    Maintainer,
    Run,
    Workdir,
)
from cellbox.build.report import Report
from cellbox.build.scope import PROXIES, Arguments, StageScope
from cellbox.build.stage import StageState
from cellbox.build.syntax import Dockerfile
from cellbox.build.workshop import Workshop
from cellbox.engine import Tell
from cellbox.errors import DockerfileError, InvalidArgument, NotFound
from cellbox.model import reference
from cellbox.model.build import BuildSpec
from cellbox.model.image import Image, ImageConfig


def build(
    shop: Workshop,
    source: BinaryIO | Path,
    spec: BuildSpec,
    *,
    tell: Tell | None = None,
    stop: Stop | None = None,
) -> Image:
    """The image that the Dockerfile in a context (a tar, compressed or not, or a directory) makes.

    ``tell`` hears of it as it goes; ``stop`` is asked now and then whether to give up. Raises
    DockerfileError, StepFailed, and whatever the engine does.
    """
    names = [_tag(name) for name in spec.tags]
    sweep(shop)
    with contexts.opened(source, spec.dockerfile) as context, ExitStack() as held:
        dockerfile = syntax.read(parser.parse(context.dockerfile))
        arguments = _arguments(shop, spec, dockerfile)
        stages = graph.graph(dockerfile, arguments, spec.target, spec.labels)
        report = Report(tell, graph.steps(stages.order(), len(dockerfile.arguments)))
        cache = Cache(() if spec.no_cache else shop.images.list(all=True))
        bench = Bench(shop, report, cache, held, stop or _never, spec.keep)
        for line in dockerfile.arguments:
            report.step(line.node.original)
        state = _Solver(bench, spec, context, stages, arguments, dockerfile.escape).solve()
        report.unused(_unused(dockerfile, arguments))
        report.built(state.short_id)
    for name in names:
        shop.images.tag(state.image, name)
        report.tagged(name)
    return shop.images.get(state.image)


def _never() -> bool:
    return False


def _tag(name: str) -> str:
    parsed = reference.parse(name)
    if parsed.digest:
        raise InvalidArgument(f"{name}: a name for a new image cannot have a digest")
    return parsed.familiar


def _arguments(shop: Workshop, spec: BuildSpec, dockerfile: Dockerfile) -> Arguments:
    known = scope.platform_arguments(shop.platform(), shop.platform(spec.platform), spec.target)
    return scope.arguments(dockerfile.arguments, spec.arguments, known, dockerfile.escape)


def _unused(dockerfile: Dockerfile, arguments: Arguments) -> set[str]:
    """The values that were given and that no ARG asks for."""
    steps = [step for stage in dockerfile.stages for step in stage.instructions]
    lines = [step for step in (*dockerfile.arguments, *steps) if isinstance(step, Arg)]
    asked = {name for line in lines for name, _ in line.names}
    return {*arguments.given} - asked - PROXIES - {*arguments.platform}


class _Solver:
    """One build: the stages that are done, by their index."""

    def __init__(
        self,
        bench: Bench,
        spec: BuildSpec,
        context: Context,
        stages: Graph,
        arguments: Arguments,
        escape: str,
    ) -> None:
        self._bench = bench
        self._spec = spec
        self._context = context
        self._stages = stages
        self._arguments = arguments
        self._escape = escape
        self._done: dict[int, StageState] = {}

    def solve(self) -> StageState:
        """Do all that the target needs; where it has come to. Raises InvalidArgument where that is
        nothing."""
        for vertex in self._stages.order():
            self._result(vertex.index)
        state = self._result(self._stages.target)
        if not state.image:
            raise InvalidArgument("No image was generated. Is your Dockerfile empty?")
        return state

    # Stages --------------------------------------------------------------------------------------

    def _result(self, index: int) -> StageState:
        if index not in self._done:
            self._done[index] = self._stage(self._stages.vertices[index])
        return self._done[index]

    def _stage(self, vertex: Vertex) -> StageState:
        report = self._bench.report
        report.step(vertex.start.node.original)
        with _at(vertex.start):
            state = self._begun(vertex)
            triggers = _triggers(state.config)
        report.image(state.short_id)
        if triggers:
            report.triggers(len(triggers))
            state = replace(state, config=replace(state.config, on_build=()))
        for step in triggers:
            state = self._told(state, vertex, step)
        for step in vertex.stage.instructions:
            report.step(step.node.original)
            state = self._told(state, vertex, step)
        return state

    def _told(self, state: StageState, vertex: Vertex, step: Instruction) -> StageState:
        self._bench.check()
        bound = scope.expanded(step, state.variables)
        with _at(step):
            state = self._after(state, vertex, bound)
        self._bench.report.image(state.short_id)
        return state

    def _begun(self, vertex: Vertex) -> StageState:
        fresh = StageScope(self._arguments, self._escape)
        if isinstance(vertex.base, int):
            return replace(self._result(vertex.base), scope=fresh, command_given=False)
        if vertex.base == SCRATCH:
            return StageState(fresh, configs.with_path(ImageConfig()))
        image = self._image(vertex.base, vertex.start.platform or self._spec.platform)
        return StageState(fresh, configs.with_path(image.config), image.id, image.author)

    def _image(self, name: str, platform: str = "") -> Image:
        """An image that is here, else one from its registry."""
        images = self._bench.shop.images
        if not self._spec.pull:
            try:
                return images.get(name)
            except NotFound:
                pass
        auth = self._spec.credentials.get(reference.parse(name).domain)
        return images.pull(name, platform=platform, auth=auth, watch=self._bench.report.tell)

    # Steps ---------------------------------------------------------------------------------------

    def _after(self, state: StageState, vertex: Vertex, step: Instruction) -> StageState:
        """Where a step brings the stage; its variables are in place."""
        bench = self._bench
        match step:
            case Arg():
                state.scope.declare(step)
                return state
            case Run():
                return runs.run(bench, self._spec, state, step, partial(self._files, vertex))
            case Copy():
                return copies.copy(
                    bench, state, step, self._files(vertex, step.origin, parents=step.parents)
                )
            case Workdir():
                return copies.workdir(bench, state, step, configs.changed(state.config, step))
            case Maintainer():
                state = replace(state, author=step.name)
            case Cmd():
                state = replace(state, command_given=True)
        given = state.command_given
        config = configs.changed(state.config, step, command_given=given)
        return bench.change(state, configs.told(step), config)

    def _files(self, vertex: Vertex, text: str, *, parents: bool = False) -> copies.Select:
        """What finds files in the stage or image ``text``, or, where it is empty, the context; with
        the directories above them where ``parents`` are wanted."""
        if not text:
            root = self._context.root
            if parents:
                return lambda source: [copying.with_parents(root, source)]
            return partial(copying.select, root)
        origin = self._stages.origin(text, vertex)
        id = self._result(origin).image if isinstance(origin, int) else self._image(origin).id
        if not id:
            raise InvalidArgument(f"COPY failed: there is nothing in stage {text}")
        files = self._bench.files_of(id)
        return files.with_parents if parents else files.select


def _triggers(config: ImageConfig) -> list[Instruction]:
    """What the base image has delayed. Raises DockerfileError."""
    nodes = [node for text in config.on_build for node in parser.parse(text).nodes]
    return [syntax.instruction(node) for node in nodes]


@contextmanager
def _at(step: Instruction) -> Iterator[None]:
    """Let what is wrong with the input name its line."""
    try:
        yield
    except DockerfileError:
        raise
    except InvalidArgument as error:
        raise InvalidArgument(f"line {step.line}: {error}") from None
