"""The micro-batches of an optimiser step: which there are, and which of them this process computes.

In float32 a pair's log-probabilities are the same to 1e-5 of their size whatever is computed beside it, so every
process takes its share of the pairs and lays it out as it likes. In 16 bits they differ by tenths of a nat to nats,
because products of another shape round otherwise. There micro-batches follow from the pairs, their order and the batch
size alone, not from the number of processes, and the reference pass computes the very ones of the first epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aipo_lab.training.batches import Sharing
from aipo_lab.training.packing import MicroBatch, micro_batches, optimiser_batches
from aipo_lab.training.pairs import EncodedPair
from aipo_lab.training.processes import Processes

PROCESSES_SERVED = 8
"""In 16 bits a step makes at least about so many micro-batches, so that as many processes have something to do."""


def own_micro_batches(
    indices: Sequence[int],
    pairs: Sequence[EncodedPair],
    max_tokens: int,
    sharing: Sharing,
    precision: str,
    processes: Processes,
) -> list[MicroBatch]:
    """This process's micro-batches of an optimiser step over the pairs `indices`."""
    if precision == "float32":
        own = processes.share(indices, lambda index: pairs[index].n_tokens)
        return micro_batches(own, pairs, max_tokens, sharing)
    made = _fixed_micro_batches(indices, pairs, max_tokens, sharing)
    return processes.share(made, lambda rows: sum(pairs[index].n_tokens for row in rows for index in row))


def reference_micro_batches(
    pairs: Sequence[EncodedPair],
    max_tokens: int,
    sharing: Sharing,
    precision: str,
    batch_size: int | None = None,
    seed: int | None = None,
) -> Iterator[MicroBatch]:
    """The micro-batches of a pass over all pairs: in 16 bits those of a training's first epoch.

    `batch_size` and `seed` are that training's; without them all pairs are one step in their own order.
    """
    everything = list(range(len(pairs)))
    if precision == "float32":
        yield from micro_batches(everything, pairs, max_tokens, sharing)
        return
    steps = [everything] if batch_size is None or seed is None else optimiser_batches(len(pairs), batch_size, 1, seed)
    for indices in steps:
        yield from _fixed_micro_batches(indices, pairs, max_tokens, sharing)


def _fixed_micro_batches(
    indices: Sequence[int], pairs: Sequence[EncodedPair], max_tokens: int, sharing: Sharing
) -> list[MicroBatch]:
    n_tokens = sum(pairs[index].n_tokens for index in indices)
    return micro_batches(indices, pairs, min(max_tokens, max(1, n_tokens // PROCESSES_SERVED)), sharing)
