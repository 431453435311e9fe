"""The processes that train together: who this one is, which share of a batch it takes, and sums over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item")


@dataclass(frozen=True)
class Processes:
    """`count` processes in torch's default process group; this one is `rank`. With one process nothing is sent."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def share(self, items: Sequence[Item], n_tokens: Callable[[Item], int]) -> list[Item]:
        """This process's share of an optimiser batch, dealt by length to and fro: shares weigh about the same."""
        by_length = sorted(items, key=lambda item: -n_tokens(item))
        to_and_fro = [*range(self.count), *reversed(range(self.count))]
        return [item for i, item in enumerate(by_length) if to_and_fro[i % (2 * self.count)] == self.rank]

    def sum(self, values: dict[str, float], device: str) -> dict[str, float]:
        """The sums of `values` over all processes; all must have the same names."""
        if self.count == 1:
            return values
        import torch
        import torch.distributed

        total = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
        torch.distributed.all_reduce(total)
        return dict(zip(values, total.tolist(), strict=True))

    def sum_tensor(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes, in place; all must have the same shape."""
        if self.count > 1:
            import torch.distributed

            torch.distributed.all_reduce(values)
        return values

    def most(self, values: Sequence[float], device: str) -> list[float]:
        """The largest of each of the values over all processes."""
        if self.count == 1:
            return list(values)
        import torch
        import torch.distributed

        largest = torch.tensor(values, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(largest, op=torch.distributed.ReduceOp.MAX)
        made: list[float] = largest.tolist()
        return made

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every parameter's gradient by its sum over all processes; what none has reached keeps none."""
        if self.count == 1:
            return
        import torch
        import torch.distributed

        listed = list(parameters)
        device = str(listed[0].device)
        reached = self.most([float(parameter.grad is not None) for parameter in listed], device)
        for parameter in (one for one, anywhere in zip(listed, reached, strict=True) if anywhere):
            if parameter.grad is None:  # no pair of this process's share reached it
                parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.count > 1:
            import torch.distributed

            torch.distributed.barrier()


SINGLE = Processes()
