"""Where every activation lies in the arena."""

from dataclasses import dataclass

from graph import Graph, Tensor, inputs_of

ALIGNMENT = 16


@dataclass
class Lifetime:
    """The operators, first and last, between which a storage is in use."""

    size: int
    first: int
    last: int

    def overlaps(self, other: "Lifetime") -> bool:
        """Whether both are in use at the same time."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Arena:
    """A place for every storage."""

    offsets: dict[int, int]
    size: int

    def offset(self, tensor: Tensor) -> int:
        """Where a tensor begins."""
        return self.offsets[tensor.storage]


def lifetimes(graph: Graph) -> dict[int, Lifetime]:
    """The input and the output outlive the inference: one input serves many, results wait."""
    end = len(graph.operators)
    lives = {graph.input.storage: Lifetime(graph.input.size, 0, end)}
    for index, operator in enumerate(graph.operators):
        for tensor in inputs_of(operator):
            lives[tensor.storage].last = max(lives[tensor.storage].last, index)
        output = operator.output
        lives[output.storage] = Lifetime(output.size, index, index)
    lives[graph.output.storage].last = end
    return lives


def plan(graph: Graph) -> Arena:
    """Greedy by size: the largest first, each at the lowest place free during its life."""
    lives = lifetimes(graph)
    offsets: dict[int, int] = {}
    for storage in sorted(lives, key=lambda storage: (-lives[storage].size, storage)):
        life = lives[storage]
        rivals = sorted(
            (offsets[other], lives[other].size) for other in offsets if lives[other].overlaps(life)
        )
        offset = 0
        for start, size in rivals:
            if offset + life.size <= start:
                break
            offset = max(offset, _aligned(start + size))
        offsets[storage] = offset
    return Arena(offsets, max(offsets[storage] + lives[storage].size for storage in lives))


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
