"""Names of containers and networks: which are allowed, and new ones in Docker's style
(``brisk_noether``)."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from cellbox.errors import InvalidArgument

MAX_NAME = 255
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_NETWORK = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")

ADJECTIVES = tuple(
    """able agile alert amber ample apt azure balmy bold brave breezy bright brisk broad calm candid
    careful cheery civil clear clever coastal copper coral cosy crisp curious dapper daring deft
    dewy diligent earnest easy eager elated fabled fair fleet fluent fond frank fresh frosty gallant
    gentle gilded glad golden grand hardy hasty hearty honest humble iron ivory jolly jovial keen
    kindly laconic lively loyal lucid lunar mellow merry mild mindful mighty modest nimble noble
    northern opal orderly patient placid plucky polished prompt proud quick quiet rapid ready regal
    robust rustic sage scarlet serene sharp silent silver sincere sleek snug sober solar solid
    spry stable steady stellar sturdy subtle sunny swift tender thrifty tidy tranquil trusty upbeat
    valiant velvet vernal vivid warm wary willing windy witty wry zesty""".split()
)
SCIENTISTS = tuple(
    """abel agnesi alhazen ampere anning archimedes aryabhata avogadro babbage banneker bardeen
    bernoulli bohr boltzmann boole born bose brahe burnell cannon cantor carson cauchy cavendish
    chandrasekhar chatelet church clarke copernicus coulomb curie dalton darwin descartes diophantus
    dirac einstein eratosthenes euclid euler faraday fermat fermi feynman fibonacci fleming fourier
    franklin galileo galois gauss germain gibbs goodall granville hamilton hawking heisenberg
    herschel hertz hilbert hodgkin hooke hopper hubble huygens hypatia jackson jacobi johnson joliot
    kepler khayyam knuth kovalevskaya lagrange lamarr laplace lavoisier leavitt leibniz linnaeus
    lonsdale lorentz lovelace maathai maxwell mcclintock meitner mendel mendeleev mirzakhani
    mitchell napier nash newton nightingale noether ohm pascal pasteur pauli payne perlman planck
    poincare ptolemy ramanujan riemann roentgen rubin russell rutherford sagan schrodinger shannon
    somerville steno stokes tesla thales turing volta vonneumann wallace weyl wiener wu yalow yonath
    zhang""".split()
)


def check(name: str) -> str:
    """``name`` itself, without the slash that Docker's API puts before it.

    Raises InvalidArgument with Docker's sentence for what is not a container's name.
    """
    bare = name.removeprefix("/")
    if not _NAME.fullmatch(bare):
        raise InvalidArgument(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    if len(bare) > MAX_NAME:
        raise InvalidArgument(f"Invalid container name: it has more than {MAX_NAME} characters")
    return bare


def check_network(name: str) -> str:
    """``name`` itself, if it is a network's name. Raises InvalidArgument."""
    if not _NETWORK.fullmatch(name) or len(name) > MAX_NAME:
        raise InvalidArgument(
            f"{name!r} is no name for a network: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    return name


def generate(is_taken: Callable[[str], bool], choose: random.Random | None = None) -> str:
    """A new name for which ``is_taken`` says no; digits are added when luck runs out."""
    dice = choose or random.SystemRandom()
    digits = ""
    while True:
        name = f"{dice.choice(ADJECTIVES)}_{dice.choice(SCIENTISTS)}{digits}"
        if not is_taken(name):
            return name
        digits += str(dice.randrange(10))
