"""What judging a sweep would cost: the calls of every score that is missing, and their price."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from aipo_lab.benchmarks.catalogue import files_fingerprint, load_official, needs_judge
from aipo_lab.benchmarks.config import BenchmarksConfig
from aipo_lab.benchmarks.official import Answer, OfficialBenchmark
from aipo_lab.core.errors import UserError
from aipo_lab.core.progress import Progress
from aipo_lab.core.store import Store
from aipo_lab.judging.calls import CHARACTERS_PER_TOKEN, JudgeRequest
from aipo_lab.judging.ledger import SharedBudget, command_ledger
from aipo_lab.judging.money import CostEstimate, Price, estimate_cost, find_price, usd_text
from aipo_lab.judging.settings import JudgeSettings
from aipo_lab.pipeline.recipe import Recipe
from aipo_lab.sweeps.plan import SweepGraph
from aipo_lab.sweeps.throughputs import throughputs
from aipo_lab.sweeps.work import n_turns

CANDIDATES = "candidates"
"""What is judged for a ranking, beside the names of benchmarks."""


def judging_costs(
    graph: SweepGraph, store: Store, one_score: Callable[[str, BenchmarksConfig], CostEstimate] | None = None
) -> dict[str, CostEstimate]:
    """The cost of the scores that are left to make, by official benchmark, and of judging `candidates` for rankings.

    `one_score`: what one of them costs, `benchmark_cost` unless given, an upper estimate: every answer is taken to be
    as long as its cap. Replies that are stored already count as calls. Raises `UserError` and `MissingDependency` as
    loading the benchmarks does.
    """
    left: Counter[tuple[str, str]] = Counter()
    for node in graph.nodes.values():
        if node.stage == "judge_official" and needs_judge(node.request.config["benchmark"]):
            trial = graph.users[node.reference][0]
            left[node.request.config["benchmark"], trial] += not store.contains(node.stage, node.key)
    costs: dict[str, CostEstimate] = {}
    known: dict[tuple[str, str], CostEstimate] = {}
    for (benchmark, trial), n_scores in left.items():
        config = graph.recipes[trial].benchmarks
        settings = benchmark, config.model_dump_json()
        if settings not in known:
            known[settings] = (one_score or benchmark_cost)(benchmark, config)
        costs[benchmark] = sum_costs([costs.get(benchmark, CostEstimate(0, 0, 0, 0.0)), *[known[settings]] * n_scores])
    return costs | _ranking_costs(graph, store)


def _ranking_costs(graph: SweepGraph, store: Store) -> dict[str, CostEstimate]:
    """What rankings that ask a judge cost at most; nothing where none does."""
    costs = []
    for name, trial in graph.trials.items():
        recipe = graph.recipes[name]
        if recipe.rank.asked_judge() is None:
            continue
        for iteration in trial.iterations:
            node = iteration.steps.get("rank")
            if node is not None and graph.users[node.reference][0] == name:
                left = not store.contains(node.stage, node.key)
                costs += [ranking_cost(recipe, iteration.t)] * left
    return {CANDIDATES: sum_costs(costs)} if costs else {}


def ranking_cost(recipe: Recipe, iteration: int) -> CostEstimate:
    """What a judge of candidates costs in an iteration, with prompts, responses and replies as long as they may be."""
    rank, judge = recipe.rank.at(iteration), recipe.rank.asked_judge()
    assert judge is not None
    prompt, response = recipe.respond.max_prompt_tokens, recipe.respond.sampling.max_new_tokens
    calls = read = written = 0
    for one in rank.questions(recipe.respond.n_candidates):
        n = recipe.instruct.n_prompts * one.n
        calls += n
        read += n * (one.chars // CHARACTERS_PER_TOKEN + prompt + one.candidates * response + one.tokens)
        written += n * one.most_reply_tokens
    price = _price_of(judge)
    return CostEstimate(calls, read, written, None if price is None else price.cost_usd(read, written))


@contextmanager
def open_budget(graph: SweepGraph, ledger: Path, max_cost_usd: float | None) -> Iterator[SharedBudget | None]:
    """The money all judges of a sweep may spend together while the block runs; None if it asks no judge.

    The limit is `max_cost_usd`, else the least that a recipe's judge may spend.
    """
    asked = [one for recipe in graph.recipes.values() for one in (recipe.benchmarks.judge, recipe.rank.asked_judge())]
    judges = [judge for judge in asked if judge is not None]
    if not judges:
        yield None
        return
    limits = [judge.max_cost_usd for judge in judges if judge.max_cost_usd is not None]
    limit_usd = max_cost_usd if max_cost_usd is not None else min(limits, default=None)
    with command_ledger(ledger, limit_usd) as budget:
        yield budget


def limit_warning(graph: SweepGraph, store: Store, budget: SharedBudget) -> str | None:
    """What to say where a sweep's judging could cost more than its limit; None where it cannot."""
    if budget.limit_usd is None:
        return None
    most = sum_costs(judging_costs(graph, store).values()).usd
    if most is None or most <= budget.limit_usd:
        return None
    return (
        f"judging could cost up to {usd_text(most)}, more than the limit of {usd_text(budget.limit_usd)}: where it is "
        "reached, scores stay open and a later run goes on"
    )


def benchmark_cost(name: str, config: BenchmarksConfig) -> CostEstimate:
    """What judging one model once costs."""
    settings, judge = config.official()[name], config.judge
    assert judge is not None
    price = _price(config)
    benchmark = load_official(name, settings.limit)
    return estimate_cost(_requests(benchmark, judge, settings.max_new_tokens * CHARACTERS_PER_TOKEN), price)


def foreseen_cost(name: str, config: BenchmarksConfig) -> CostEstimate:
    """`benchmark_cost`, from the table of throughputs where the benchmark's data files are not on this machine."""
    try:
        files_fingerprint(name)
    except UserError:
        if name not in throughputs().judging:
            raise
        return _tabled_cost(name, config, most=True)
    return benchmark_cost(name, config)


def expected_cost(name: str, config: BenchmarksConfig) -> CostEstimate:
    """What judging one model once costs with answers and replies of the lengths that the table expects.

    The upper estimate for a benchmark that is not in the table.
    """
    return _tabled_cost(name, config, most=False) if name in throughputs().judging else benchmark_cost(name, config)


def _tabled_cost(name: str, config: BenchmarksConfig, most: bool) -> CostEstimate:
    table, settings = throughputs(), config.official()[name]
    work, cap = table.judging[name], settings.max_new_tokens
    answer_tokens = cap if most else min(cap, table.lengths[name].value)
    calls = n_turns({"benchmark": name, "limit": settings.limit}) * work.calls
    prompt_tokens = round(calls * (work.characters / CHARACTERS_PER_TOKEN + work.answers * answer_tokens))
    completion_tokens = calls * (work.most if most else work.reply)
    price = _price(config)
    usd = None if price is None else price.cost_usd(prompt_tokens, completion_tokens)
    return CostEstimate(calls, prompt_tokens, completion_tokens, usd)


def _price(config: BenchmarksConfig) -> Price | None:
    assert config.judge is not None
    return _price_of(config.judge)


def _price_of(judge: JudgeSettings) -> Price | None:
    return Price(input=0, output=0) if judge.engine == "local" else find_price(judge.model, judge.prices)


class _Asked(Exception):
    """What a benchmark asked its judge."""

    def __init__(self, requests: Sequence[JudgeRequest]) -> None:
        self.requests = requests


class _AskedJudge:
    """A judge that never replies: asking it ends the judging, with what was asked."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ask(self, requests: Sequence[JudgeRequest], progress: Progress) -> NoReturn:  # noqa: ARG002
        raise _Asked(requests)

    def discard(self, request: JudgeRequest, reason: str) -> None:
        """Nothing to discard."""


def _requests(benchmark: OfficialBenchmark, judge: JudgeSettings, answer_chars: int) -> Sequence[JudgeRequest]:
    """The calls for answers of that many characters."""
    text = "x" * answer_chars
    answers = [Answer(question.id, (text,) * len(question.turns)) for question in benchmark.questions]
    try:
        benchmark.judge("model", answers, None, _AskedJudge(judge.model), lambda *_: None)
    except _Asked as asked:
        return asked.requests
    return []


def sum_costs(costs: Iterable[CostEstimate]) -> CostEstimate:
    """Several costs together; money is unknown if that of one is."""
    parts = list(costs)
    prices = [part.usd for part in parts]
    return CostEstimate(
        sum(part.calls for part in parts),
        sum(part.prompt_tokens for part in parts),
        sum(part.completion_tokens for part in parts),
        None if None in prices else sum(price for price in prices if price is not None),
    )
