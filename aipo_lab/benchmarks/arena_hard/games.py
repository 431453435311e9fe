"""Games: the judge compares two answers, and is asked a second time when it names no verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aipo_lab.benchmarks.arena_hard.prompts import second_attempt
from aipo_lab.benchmarks.arena_hard.verdicts import V01, Game, distinct_labels, judged_game
from aipo_lab.benchmarks.spoken import spoken
from aipo_lab.core.progress import Progress
from aipo_lab.judging.calls import Judge, JudgeReply, JudgeRequest, Outcome


def play(requests: Sequence[JudgeRequest], judge: Judge, progress: Progress) -> list[Game]:
    """The games of `requests`, in their order, with at most two attempts each; a game's text starts every reply on
    a new line, the first one too, as official files do.

    Official rule (v0.1): a reply without a label is followed by a second attempt, whose verdict is read from both
    replies; two different labels end the game at once, without a verdict. The replies of a game that ends without a
    verdict are discarded, so that the next run plays it again; a game that got no reply goes on in the next run.
    """
    first = judge.ask(requests, progress)
    again = {
        index: second_attempt(requests[index], reply.text)
        for index, reply in enumerate(first)
        if isinstance(reply, JudgeReply) and not distinct_labels(reply.text)
    }
    second = dict(zip(again, judge.ask(list(again.values()), progress), strict=True)) if again else {}
    games = []
    for index, request in enumerate(requests):
        attempts = [(request, first[index])]
        if index in again:
            attempts.append((again[index], second[index]))
        games.append(_finish(attempts, judge))
    return games


def _finish(attempts: Sequence[tuple[JudgeRequest, Outcome]], judge: Judge) -> Game:
    texts = [reply.text for _, reply in attempts if isinstance(reply, JudgeReply)]
    text = "".join(f"\n{one}" for one in texts)
    last = attempts[-1][1]
    if not isinstance(last, JudgeReply):
        return Game(text, None, f"attempt {len(attempts)} got no reply: {last.reason}")
    said = "".join(f"\n{spoken(one)}" for one in texts)  # a thought that is cut off ends with its reply
    game = judged_game(text, V01.read_verdict(said), V01)
    if game.failure is None:
        return game
    cut = ", the last one cut off by its length limit" if last.finish_reason == "length" else ""
    failure = f"{game.failure} (attempts: {len(attempts)}{cut})"
    for request, _ in attempts:
        judge.discard(request, failure)
    return replace(game, failure=failure)
