"""The processes that train together: who this one is, which share of a batch it takes, and sums over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aipo_lab.training.pairs import EncodedPair

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """`count` processes in torch's default process group; this one is `rank`. With one process nothing is sent."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def share(self, indices: Sequence[int], pairs: Sequence[EncodedPair]) -> list[int]:
        """This process's pairs of an optimiser batch, dealt by length to and fro: shares weigh about the same."""
        by_length = sorted(indices, key=lambda index: -pairs[index].n_tokens)
        to_and_fro = [*range(self.count), *reversed(range(self.count))]
        return [index for i, index in enumerate(by_length) if to_and_fro[i % (2 * self.count)] == self.rank]

    def sum(self, values: dict[str, float], device: str) -> dict[str, float]:
        """The sums of `values` over all processes; all must have the same names."""
        if self.count == 1:
            return values
        import torch
        import torch.distributed

        total = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
        torch.distributed.all_reduce(total)
        return dict(zip(values, total.tolist(), strict=True))

    def most(self, n: int, device: str) -> int:
        """The largest `n` of all processes."""
        import torch
        import torch.distributed

        largest = torch.tensor(n, device=device)
        if self.count > 1:
            torch.distributed.all_reduce(largest, op=torch.distributed.ReduceOp.MAX)
        return int(largest)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every parameter's gradient by its sum over all processes."""
        if self.count == 1:
            return
        import torch
        import torch.distributed

        for parameter in parameters:
            if parameter.grad is None:  # no pair of this process's share reached it
                parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.count > 1:
            import torch.distributed

            torch.distributed.barrier()


SINGLE = Processes()
