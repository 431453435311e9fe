"""IFEval and IFBench as benchmarks: their prompts, and checking a model's answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from aipo_lab.assets.asset import PinnedFile, require_hash
from aipo_lab.assets.instruction_following import IFBENCH_FILE, IFEVAL_FILE
from aipo_lab.assets.library import find
from aipo_lab.benchmarks.instruction_following.checking import Followed, Instructed, Name, check, scores
from aipo_lab.benchmarks.instruction_following.responses import plain, read_responses
from aipo_lab.benchmarks.length_control import mean_estimate
from aipo_lab.benchmarks.official import (
    Answer,
    Judged,
    JudgedQuestion,
    Question,
    Verdict,
    file_name,
    official_file,
)
from aipo_lab.benchmarks.plain import PlainBenchmark
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import iterate_jsonl, write_jsonl
from aipo_lab.core.progress import Progress


class InstructionFollowing(PlainBenchmark):
    """Prompts whose instructions are checked by a program; an `OfficialBenchmark` without a judge."""

    name: ClassVar[Name]
    file: ClassVar[PinnedFile]

    def __init__(self, instructed: Sequence[Instructed]) -> None:
        super().__init__([Question(one.key, (one.prompt,), temperature=0.0) for one in instructed])
        self.instructed = {one.key: one for one in instructed}

    @classmethod
    def load(cls, limit: int | None = None) -> InstructionFollowing:
        """The prompts of the fetched asset, `limit` of them evenly spread. Raises `UserError` without the asset."""
        every = [
            Instructed(str(row["key"]), row["prompt"], tuple(row["instruction_id_list"]), tuple(row["kwargs"]))
            for row in iterate_jsonl(cls._official_file())
        ]
        kept = len(every) if limit is None else min(limit, len(every))
        return cls([every[n * len(every) // kept] for n in range(kept)])

    @classmethod
    def _official_file(cls) -> Path:
        path = find(cls.name) / cls.file.name
        require_hash(path, cls.file.sha256)
        return path

    def judge(
        self,
        model: str,  # noqa: ARG002
        answers: Sequence[Answer],
        baseline: Sequence[Answer] | None,  # noqa: ARG002 - instructions are followed or not
        judge: Any,  # noqa: ARG002
        progress: Progress,
    ) -> Judged:
        """Check every answer. Metrics: `prompt_strict` and its kin in percent, `length_chars`."""
        rows: list[dict[str, Any]] = []
        followed: list[Followed] = []
        for n, answer in enumerate(answers, 1):
            instructed, response = self.instructed[answer.question_id], answer.turns[0]
            followed.append(check(self.name, instructed, response))
            rows.append(_official_row(instructed, response, followed[-1]))
            progress(n, len(answers), "answers")
        lengths = mean_estimate([len(answer.turns[0]) for answer in answers])
        return Judged({**scores(followed), "length_chars": lengths}, rows)

    def read_answers(self, path: Path) -> tuple[str, list[Answer]]:
        """See `OfficialBenchmark`; rows hold `prompt` and `response`, as the official tools write them."""
        by_prompt = read_responses(path)
        missing = [one for one in self.instructed.values() if plain(one.prompt) not in by_prompt]
        if missing:
            raise UserError(
                f"{path} lacks responses to {len(missing)} of {len(self.instructed)} prompts, the first with the key "
                f"{missing[0].key}; answer them too, or limit the benchmark"
            )
        answers = [Answer(key, (by_prompt[plain(one.prompt)],)) for key, one in self.instructed.items()]
        return path.stem, answers

    def write_answers(self, folder: Path, model: str, answers: Sequence[Answer]) -> Path:
        """Write `answers/<model>.jsonl` as the official tools read it."""
        path = official_file(folder, "answers", f"{file_name(model)}.jsonl")
        rows = ((self.instructed[one.question_id], one.turns[0]) for one in answers)
        write_jsonl(path, ({"key": one.key, "prompt": one.prompt, "response": text} for one, text in rows))
        return path

    def write_judgments(self, folder: Path, model: str, judge: str, judged: Judged) -> Path:  # noqa: ARG002
        """Write `eval_results_strict.jsonl` and `eval_results_loose.jsonl`; returns the first."""
        for kind in ("loose", "strict"):
            path = official_file(folder, file_name(model), f"eval_results_{kind}.jsonl")
            write_jsonl(path, (_of_kind(dict(row), kind) for row in judged.judgments))
        return path

    def by_question(self, judged: Judged) -> list[JudgedQuestion]:
        """The share of instructions strictly followed, from 0 to 1, and a verdict on each."""
        return [
            JudgedQuestion(
                row["key"],
                None,
                fmean(row["strict"]),
                tuple(
                    Verdict(id_, "followed" if strict else "loosely" if loose else "not followed", "")
                    for id_, strict, loose in zip(row["instruction_id_list"], row["strict"], row["loose"], strict=True)
                ),
            )
            for row in judged.judgments
        ]


class IFEval(InstructionFollowing):
    """IFEval (arXiv 2311.07911)."""

    name = "ifeval"
    file = IFEVAL_FILE


class IFBench(InstructionFollowing):
    """IFBench (arXiv 2507.02833)."""

    name = "ifbench"
    file = IFBENCH_FILE


def _official_row(instructed: Instructed, response: str, followed: Followed) -> dict[str, Any]:
    return {
        "key": instructed.key,
        "instruction_id_list": list(instructed.instruction_ids),
        "prompt": instructed.prompt,
        "response": response,
        "strict": list(followed.strict),
        "loose": list(followed.loose),
    }


def _of_kind(row: dict[str, Any], kind: str) -> dict[str, Any]:
    """A row of an official result file."""
    marks = row[kind]
    shared = {key: row[key] for key in ("instruction_id_list", "prompt", "response")}
    return {"follow_all_instructions": all(marks), "follow_instruction_list": marks, **shared}
