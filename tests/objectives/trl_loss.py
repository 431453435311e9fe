"""TRL's own loss code, run on chosen tensors: a model that returns the log-probabilities it was made with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch

PROMPT_TOKENS = 2


def trl_loss(
    chosen: Sequence[Sequence[float]],
    rejected: Sequence[Sequence[float]],
    reference_chosen: Sequence[Sequence[float]],
    reference_rejected: Sequence[Sequence[float]],
    *,
    loss_type: Sequence[str],
    loss_weights: Sequence[float] | None = None,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    discopop_tau: float = 0.05,
    ld_alpha: float | None = None,
    log_squares: Sequence[Sequence[float]] | None = None,
) -> float:
    """`DPOTrainer._compute_loss` of a batch given by its tokens' log-probabilities, in float64: a mean over pairs.

    `log_squares`: of the chosen responses' tokens, then the rejected ones': turns `use_weighting` on.
    """
    from trl import DPOTrainer

    policy, mask = _padded([*chosen, *rejected])
    reference, _ = _padded([*reference_chosen, *reference_rejected])
    trainer = SimpleNamespace(
        model=_Speaker(policy).eval(),
        ref_model=_Speaker(reference),
        accelerator=SimpleNamespace(device="cpu", gather_for_metrics=_alone, gather=_alone),
        args=SimpleNamespace(discopop_tau=discopop_tau, gradient_checkpointing_kwargs=None),
        aux_loss_enabled=False,
        ld_alpha=ld_alpha,
        precompute_ref_logps=False,
        f_divergence_type="reverse_kl",
        loss_types=list(loss_type),
        loss_weights=list(loss_weights or [1.0] * len(loss_type)),
        beta=beta,
        label_smoothing=label_smoothing,
        use_weighting=log_squares is not None,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
    )
    trainer.args.gradient_checkpointing = False
    inputs = {"input_ids": torch.zeros_like(mask), "attention_mask": torch.ones_like(mask), "completion_mask": mask}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # exo_pair makes a tensor of its own of the label smoothing
    try:
        loss = DPOTrainer._compute_loss(trainer, _Speaker(policy, log_squares), inputs, return_outputs=False)
    finally:
        torch.set_default_dtype(before)
    return float(loss)


def _padded(responses: Sequence[Sequence[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities (2B, L-1) of shifted positions, and the completion mask (2B, L)."""
    length = PROMPT_TOKENS + max(map(len, responses))
    logps = torch.zeros(len(responses), length - 1, dtype=torch.float64)
    mask = torch.zeros(len(responses), length, dtype=torch.long)
    for row, response in enumerate(responses):
        logps[row, PROMPT_TOKENS - 1 : PROMPT_TOKENS - 1 + len(response)] = torch.tensor(response, dtype=torch.float64)
        mask[row, PROMPT_TOKENS : PROMPT_TOKENS + len(response)] = 1
    return logps, mask


class _Speaker(torch.nn.Module):
    """A model with these log-probabilities (2B, L-1), whatever it is given."""

    is_gradient_checkpointing = False

    def __init__(self, logps: torch.Tensor, log_squares: Sequence[Sequence[float]] | None = None) -> None:
        super().__init__()
        self.logps = logps
        self.log_squares = torch.zeros_like(logps) if log_squares is None else _padded(log_squares)[0]

    def forward(self, **_: Any) -> Any:
        zeros = torch.zeros_like(self.logps)
        return SimpleNamespace(
            log_probs=self.logps,
            log_sum_sq_probs=self.log_squares,
            entropy=zeros,
            mean_logits=zeros,
            is_top1=zeros.bool(),
            aux_loss=None,
        )


def _alone(value: torch.Tensor) -> torch.Tensor:
    """What one process gathers."""
    return value
