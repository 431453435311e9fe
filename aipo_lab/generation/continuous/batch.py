"""Continuous batching: rows leave the batch with their last token, and waiting ones take their places.

Waiting rows come longest first. A prompt is computed once for all its rows; its keys and values are copied into their
slots. The number of rows follows from memory; where that runs out all the same, it is halved, and the rows go on from
what they have written.
"""

from __future__ import annotations

import gc
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from aipo_lab.core.errors import StageFailed
from aipo_lab.generation.continuous.drawing import draw, log_probabilities
from aipo_lab.generation.continuous.forward import Computed, Forward
from aipo_lab.generation.continuous.memory import available_bytes, bytes_per_token, rows_that_fit
from aipo_lab.generation.continuous.rows import Row
from aipo_lab.generation.continuous.timeline import SLACK_COLUMNS, Timeline
from aipo_lab.generation.engine import SamplingConfig
from aipo_lab.models.out_of_memory import is_out_of_memory
from aipo_lab.models.policy import Policy

PREFILL_TOKENS = 4096
"""Most tokens of prompts computed at once, padding included (or one prompt)."""
LITTLE_PREFILL_TOKENS = 512
"""Up to so many, prompts are computed together however their lengths differ: few tokens at once are slow ones."""
PADDING_SHARE = 0.15
"""Beyond that, the most padding of a prompt that is computed with a longer one, as a share of the longer."""
MOST_ROWS = {"cpu": 192, "cuda": 512}
"""Rows beyond which more are taken to gain little on a CPU (a guess, to be measured); elsewhere memory is the limit."""
REFILL_SHARE = 1 / 16
"""Share of the batch that must be free before prompts are computed to fill it."""

_LOG = logging.getLogger(__name__)


@dataclass
class _Opened:
    """Computed prompts, and those of their rows that wait for a slot, with the prompts' places in `computed`."""

    computed: Computed
    waiting: deque[tuple[Row, int]]


class ContinuousBatch:
    """Finishes rows of one policy."""

    def __init__(self, policy: Policy, sampling: SamplingConfig, most_rows: int | None) -> None:
        self.policy = policy
        self.forward = Forward(policy)
        self.sampling = sampling
        device = policy.model.device
        self.size = most_rows or MOST_ROWS.get(device.type, MOST_ROWS["cuda"])
        self.prefill_tokens = PREFILL_TOKENS
        self.columns = 0
        self.waiting: deque[list[Row]] = deque()
        self.opened: _Opened | None = None
        self.active: list[Row] = []
        self.timeline: Timeline | None = None

    def finish(self, rows: Sequence[Row]) -> None:
        """Write on every row until it is done. Raises `StageFailed` if memory is too small for one row."""
        self.columns = max(len(row.prompt) + row.cap for row in rows)
        self._queue(rows)
        while self.waiting or self.opened or self.active:
            try:
                self._refill()
                if self.active:
                    self._step()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(error)

    def _queue(self, rows: Sequence[Row]) -> None:
        """Put rows into the queue, longest first, those of one sequence together."""
        groups = [list(group) for _, group in groupby(rows, key=lambda row: (row.position, row.tokens))]
        self.waiting = deque(sorted(groups, key=lambda group: -len(group[0].prompt) - len(group[0].tokens)))

    def _refill(self) -> None:
        """Fill free slots where enough are free."""
        if self.active and self.size - len(self.active) < max(REFILL_SHARE * self.size, 1):
            return
        while len(self.active) < self.size and (self.opened or self.waiting):
            self._admit(self.opened or self._open())

    def _open(self) -> _Opened:
        """Compute the next prompts: as many as the free slots take."""
        free, groups = self.size - len(self.active), [self.waiting[0]]
        width = len(groups[0][0].sequence)
        for group in list(self.waiting)[1:]:
            fits = (len(groups) + 1) * width <= self.prefill_tokens and sum(map(len, groups)) < free
            if not fits or not self._alike(len(group[0].sequence), width, len(groups)):
                break
            groups.append(group)
        computed = self.forward.whole([group[0].sequence for group in groups])
        for _ in groups:
            self.waiting.popleft()
        self.opened = _Opened(computed, deque((row, place) for place, group in enumerate(groups) for row in group))
        return self.opened

    def _alike(self, length: int, width: int, n: int) -> bool:
        """Whether a sequence is computed with `n` that are up to `width` long."""
        if not self.forward.keeps_cache:
            return length == width
        return length >= (1 - PADDING_SHARE) * width or (n + 1) * width <= LITTLE_PREFILL_TOKENS

    def _admit(self, opened: _Opened) -> None:
        """Draw first tokens of opened rows, and give those that go on a slot."""
        computed = opened.computed
        if computed.cache is not None and self.timeline is None:
            self._allot(computed)
        n = min(self.size - len(self.active), len(opened.waiting))
        taken = [opened.waiting[i] for i in range(n)]
        self._write([row for row, _ in taken], computed.logits[[place for _, place in taken]])
        going_on = [(row, place) for row, place in taken if row.done is None]
        if going_on and computed.cache is not None:
            assert self.timeline is not None
            places = [place for _, place in going_on]
            self.timeline.add(computed.cache, places, [computed.lengths[place] for place in places])
        for _ in taken:
            opened.waiting.popleft()
        self.active += [row for row, _ in going_on]
        self.opened = opened if opened.waiting else None

    def _allot(self, computed: Computed) -> None:
        """Make the timeline, with as many slots as memory allows."""
        assert computed.cache is not None
        device = self.policy.model.device
        columns = self.columns + SLACK_COLUMNS
        token_bytes = bytes_per_token(computed.cache)
        fit = rows_that_fit(available_bytes(device), token_bytes, columns, self.policy.vocabulary_size)
        waiting = sum(map(len, self.waiting)) + (len(self.opened.waiting) if self.opened else 0)
        self.size = max(min(self.size, fit, waiting), 1)
        self.timeline = Timeline(computed.cache, self.size, self.columns, start=max(computed.lengths))

    def _step(self) -> None:
        """One more token of every row in the batch."""
        if self.timeline is None:
            logits = self._without_cache()
        else:
            logits = self.forward.next([row.tokens[-1] for row in self.active], self.timeline)
        self._write(self.active, logits)
        ended = [slot for slot, row in enumerate(self.active) if row.done is not None]
        if not ended:
            return
        if self.timeline is None:
            self.active = [row for row in self.active if row.done is None]
        else:
            self.active = [self.active[old] for old in self.timeline.remove(ended)]

    def _without_cache(self) -> Tensor:
        """Logits of models whose state is no keys and values: whole sequences, those of one length together."""
        sequences = [row.sequence for row in self.active]
        made: dict[int, Tensor] = {}
        by_length = sorted(range(len(sequences)), key=lambda slot: len(sequences[slot]))
        for _, group in groupby(by_length, key=lambda slot: len(sequences[slot])):
            slots = list(group)
            logits = self.forward.whole([sequences[slot] for slot in slots]).logits
            made |= dict(zip(slots, logits, strict=True))
        return torch.stack([made[slot] for slot in range(len(self.active))])

    def _write(self, rows: Sequence[Row], logits: Tensor) -> None:
        """Draw a token for every row and add it."""
        wanted = bool(rows) and rows[0].logprobs is not None
        plain = logits.clone() if wanted else None
        uniforms = [row.random.random() for row in rows] if self.sampling.temperature else []
        seen = [row.sequence for row in rows] if self.sampling.repetition_penalty != 1 else []
        tokens = draw(logits, self.sampling, uniforms, seen)
        logprobs = [None] * len(rows) if plain is None else log_probabilities(plain, tokens)
        for row, token, logprob in zip(rows, tokens.tolist(), logprobs, strict=True):
            row.append(token, logprob)

    def _shrink(self, error: BaseException) -> None:
        """Go on with half the rows; all begin again from what they have written."""
        if self.size == 1 and self.prefill_tokens == 1:
            raise StageFailed(
                f"memory is too small for one sequence of {self.columns} tokens: {error}; lower max_new_tokens or the "
                "prompts' length, set engine.dtype to bfloat16, or leave the machine to fewer workers"
            ) from error
        rows = [*self.active, *(row for row, _ in (self.opened.waiting if self.opened else ()))]
        rows += [row for group in self.waiting for row in group]
        self.size = max(min(self.size, len(self.active) or self.size) // 2, 1)
        self.prefill_tokens = self.prefill_tokens // 2 if self.size > 1 else 1
        _LOG.warning("memory ran out; going on with at most %d completions at once", self.size)
        self.active, self.opened, self.timeline = [], None, None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._queue([row for row in rows if row.done is None])
