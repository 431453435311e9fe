"""The `known_answer` ranker: 1 for a response that ends with the answer the data know for its prompt, else 0.

For prompts with one right answer, such as GSM8K's (Iterative RPO, Pang et al. 2024, arXiv 2404.19733). The response's
answer is the last match of a pattern; numbers are compared as numbers, other answers as words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from aipo_lab.core.errors import StageFailed, UserError
from aipo_lab.core.paths import is_there
from aipo_lab.core.progress import Progress
from aipo_lab.prompts.reading import DataPlace, DataRequest, FoundData, find_data, has_changed, read_rows
from aipo_lab.prompts.same import same_words
from aipo_lab.ranking.ranker import RANKERS, RankerContext, RankerDefinition, RankerResources, RankerSettings

LAST_NUMBER = r"(-?\d[\d,]*\.?\d*)"


class KnownAnswerSettings(RankerSettings):
    """Where the answers are, and how they are read."""

    ranker: Literal["known_answer"] = Field("known_answer", description="ranker: known_answer")
    answers: str = Field(
        min_length=1, description="file or folder with prompts and answers, else a dataset of the hub, owner/name"
    )
    subset: str | None = Field(None, description="the dataset's configuration, where it has several")
    split: str = Field("train", min_length=1, description="the dataset's split")
    prompt_column: str = Field("prompt", min_length=1, description="column of prompts, as in the pool")
    answer_column: str = Field("answer", min_length=1, description="column of right answers")
    answer_pattern: str | None = Field(
        None, description="regular expression whose last match in that column is the answer (none: all of it)"
    )
    response_pattern: str = Field(
        LAST_NUMBER,
        description="regular expression whose last match in a response is its answer, by default the last number; its "
        "first group, where it has one",
    )

    @field_validator("answer_pattern", "response_pattern")
    @classmethod
    def _is_an_expression(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return value

    def request(self) -> DataRequest:
        """The data that must be found before work starts."""
        if is_there(Path(self.answers)):
            place = DataPlace(path=self.answers, split=self.split)
        else:
            place = DataPlace(dataset=self.answers, subset=self.subset, split=self.split)
        return DataRequest(place=place, columns=(self.prompt_column, self.answer_column), setting="rank.answers")


def find_answers(settings: KnownAnswerSettings) -> RankerResources:
    """The data by their content; raises `UserError` as `find_data` does."""
    found = find_data(settings.request())
    return RankerResources(
        {"answers": found.content, "subset": None, "split": "train"}, {"answers": found.place.model_dump_json()}
    )


class KnownAnswerRanker:
    """Compares the last words of responses with what the data say."""

    def __init__(self, settings: KnownAnswerSettings, context: RankerContext) -> None:
        place = DataPlace.model_validate_json(context.folders["answers"])
        columns = (settings.prompt_column, settings.answer_column)
        if has_changed(FoundData(place=place, content=settings.answers), columns):
            raise StageFailed(f"{place.text()} is gone or has changed since this run began; put it back, or run again")
        self._pattern = re.compile(settings.response_pattern)
        self._answers = _known_answers(place, columns, settings.answer_pattern)

    def scores(self, rows: Sequence[Mapping[str, Any]], progress: Progress) -> Iterator[list[float]]:
        """See `Ranker.scores`; raises `StageFailed` for a prompt without a known answer."""
        for done, row in enumerate(rows, start=1):
            right = self._answers.get(same_words(row["prompt"]))
            if right is None:
                raise StageFailed(
                    f"the data know no answer to prompt {row['id']}, {row['prompt'][:80]!r}; rank only prompts of the "
                    "pool (instruct.source: pool) that rank.answers holds"
                )
            yield [float(same_answer(last_match(self._pattern, one["text"]), right)) for one in row["responses"]]
            progress(done, len(rows), "prompts")


def _known_answers(place: DataPlace, columns: tuple[str, str], pattern: str | None) -> dict[str, str]:
    """The right answers by the words of their prompts; rows that hold none are left out."""
    expression = None if pattern is None else re.compile(pattern)
    found = {}
    for row in read_rows(place, columns, "rank.answers"):
        prompt, cell = (row.get(column) for column in columns)
        answer = None if cell is None else str(cell) if expression is None else last_match(expression, str(cell))
        if isinstance(prompt, str) and answer is not None and answer.strip():
            found[same_words(prompt)] = answer
    if not found:
        raise UserError(
            f"rank.answers: {place.text()} holds no answer in column {columns[1]!r}"
            + ("" if pattern is None else f" that rank.answer_pattern {pattern!r} finds")
        )
    return found


def last_match(pattern: re.Pattern[str], text: str) -> str | None:
    """The last match of a pattern in a text, its first group where it has one; None without a match."""
    matches = list(pattern.finditer(text))
    if not matches:
        return None
    return matches[-1].group(1 if pattern.groups else 0)


def same_answer(given: str | None, right: str) -> bool:
    """Whether two answers are the same number, or else the same words, whatever the capitals and the full stop."""
    if given is None:
        return False
    one, other = _number(given), _number(right)
    return one == other if one is not None and other is not None else _words(given) == _words(right)


def _number(text: str) -> float | None:
    plain = text.strip().strip("$€£%").rstrip(".").replace(",", "")
    return float(plain) if re.fullmatch(r"-?\d+(\.\d+)?", plain) else None


def _words(text: str) -> str:
    return " ".join(text.casefold().strip().rstrip(".").split())


RANKERS.add(
    "known_answer",
    RankerDefinition(settings=KnownAnswerSettings, open=KnownAnswerRanker, resources=find_answers),
)
