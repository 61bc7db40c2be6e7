"""Allocation of the activations in the arena."""

from dataclasses import dataclass

from graph import Graph, Tensor, inputs_of

ALIGNMENT = 16


@dataclass
class Lifetime:
    """Size of a storage, and the first and last operator that use it."""

    size: int
    first: int
    last: int

    def overlaps(self, other: "Lifetime") -> bool:
        """Return whether both are in use at the same time."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Arena:
    """Offset of every storage, and the total size, in bytes."""

    offsets: dict[int, int]
    size: int

    def offset(self, tensor: Tensor) -> int:
        """Return the offset of a tensor."""
        return self.offsets[tensor.storage]


def lifetimes(graph: Graph) -> dict[int, Lifetime]:
    """Return the lifetime of every storage; input and output live beyond the inference."""
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
    """Allocate greedily by size: the largest first, each at the lowest offset that is free."""
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
