"""The constraints this world knows: how each is said, and how an answer is checked against it.

A rule is a pattern for one sentence and a function from its match to checks. To add a constraint, add a rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from aipo_lab.worlds.constraints.text import last_mark_of, sentences_of, words_of

Holds = Callable[[str], bool]
"""Whether a response meets one requirement."""


@dataclass(frozen=True)
class Check:
    """One requirement on a response. Two checks with one `subject` repeat or contradict each other."""

    subject: str
    holds: Holds


@dataclass(frozen=True)
class Rule:
    """A kind of constraint: sentences that match `pattern` whole demand `checks(match)`; none: nonsense."""

    name: str
    pattern: re.Pattern[str]
    checks: Callable[[re.Match[str]], list[Check]]


MAX_LISTED_WORDS = 4
MAX_SENTENCES = 10
MAX_WORDS = 200
_NUMBER_NAMES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
    "twenty",
]
_TENS = {"thirty": 30, "forty": 40, "fifty": 50}

_MARK = "[\"'‘’“”]"
_QUOTED = rf"{_MARK}[A-Za-z]+(?:['’-][A-Za-z]+)*[,.!?]?{_MARK}"
_WORD_LIST = rf"the words? (?P<words>{_QUOTED}(?:(?:,? and|,? or|,) {_QUOTED})*)"
_RELATION = (
    r"(?:(?P<relation>exactly|only|at most|at least|no more than|no fewer than|fewer than|less than|"
    r"more than) )?(?P<number>\d+|[a-z]+)"
)
_PLACE = r"(?: in (?:your|the) (?:answer|response|sentences?|message|text|line|tip|reason))?"
_YOU = r"(?:please )?(?:you (?:must|should) )?"


def _rule(name: str, pattern: str, checks: Callable[[re.Match[str]], list[Check]]) -> Rule:
    return Rule(name, re.compile(f"{_YOU}{pattern}", re.IGNORECASE), checks)


def _words_used(match: re.Match[str]) -> list[Check]:
    return _each_word(match, wanted=True)


def _words_avoided(match: re.Match[str]) -> list[Check]:
    return _each_word(match, wanted=False)


def _each_word(match: re.Match[str], *, wanted: bool) -> list[Check]:
    words = [words_of(found.group())[0] for found in re.finditer(_QUOTED, match["words"])]
    if len(words) > MAX_LISTED_WORDS:
        return []

    def check(word: str) -> Check:
        return Check(f"word {word}", lambda response: (word in words_of(response)) is wanted)

    return [check(word) for word in words]


def _sentence_count(match: re.Match[str]) -> list[Check]:
    return _count(match, "sentences", MAX_SENTENCES, lambda response: len(sentences_of(response)))


def _word_count(match: re.Match[str]) -> list[Check]:
    return _count(match, "words", MAX_WORDS, lambda response: len(words_of(response)))


def _count(match: re.Match[str], subject: str, largest: int, count: Callable[[str], int]) -> list[Check]:
    number = _number(match["number"])
    if number is None:
        return []
    low, high = _bounds(match["relation"], number)
    # A limit that nothing or everything meets is no constraint.
    if high < 1 or low > largest or number > largest or number < 1:
        return []
    return [Check(subject, lambda response: low <= count(response) <= high)]


def _number(text: str) -> int | None:
    text = text.lower()
    if text.isdigit():
        return int(text)
    return _NUMBER_NAMES.index(text) if text in _NUMBER_NAMES else _TENS.get(text)


def _bounds(relation: str | None, number: int) -> tuple[int, float]:
    """The least and the greatest count allowed."""
    match (relation or "exactly").lower():
        case "at most" | "no more than":
            return 0, number
        case "fewer than" | "less than":
            return 0, number - 1
        case "at least" | "no fewer than":
            return number, float("inf")
        case "more than":
            return number + 1, float("inf")
        case _:
            return number, number


def _first_word(match: re.Match[str]) -> list[Check]:
    wanted = words_of(match["quoted"])[0]
    return [Check("start", lambda response: words_of(response)[:1] == [wanted])]


def _last_word(match: re.Match[str]) -> list[Check]:
    wanted = words_of(match["quoted"])[0]
    return [Check("end", lambda response: words_of(response)[-1:] == [wanted])]


def _last_mark(mark: str) -> Callable[[re.Match[str]], list[Check]]:
    return lambda _: [Check("end", lambda response: last_mark_of(response) == mark)]


def _contains(subject: str, mark: str, *, wanted: bool) -> Callable[[re.Match[str]], list[Check]]:
    return lambda _: [Check(subject, lambda response: (mark in response) is wanted)]


_NEVER = r"(?:do not use|don't use|avoid(?: using)?)"
_FIRST = r"(?:start|begin) (?:\w+ \w+ )?with"
_LAST = r"(?:end|finish) (?:\w+ \w+ )?with"
_ONE_QUOTED = rf"the word (?P<quoted>{_QUOTED})"

RULES = (
    _rule("use", rf"(?:use|include|mention|add) (?:both )?{_WORD_LIST}{_PLACE}", _words_used),
    _rule("avoid", rf"{_NEVER} {_WORD_LIST}{_PLACE}", _words_avoided),
    _rule("sentences", rf"(?:write|use) {_RELATION} sentences?", _sentence_count),
    _rule("words", rf"(?:write|use) {_RELATION} words?", _word_count),
    _rule("start", rf"{_FIRST} {_ONE_QUOTED}", _first_word),
    _rule("end_word", rf"{_LAST} {_ONE_QUOTED}", _last_word),
    _rule("end_question", rf"{_LAST} a question(?: mark)?", _last_mark("?")),
    _rule("end_exclamation", rf"{_LAST} an exclamation mark", _last_mark("!")),
    _rule("no_commas", rf"{_NEVER} (?:any )?commas?", _contains("commas", ",", wanted=False)),
    _rule("question", r"ask (?:a|one) question", _contains("question", "?", wanted=True)),
)


_JOINT = re.compile(
    r",? and (?=(?:use|include|mention|add|write|start|begin|end|finish|ask|do not|don't|avoid)\b)", re.IGNORECASE
)


def checks_of(sentence: str) -> list[Check]:
    """What a constraint sentence (without its full stop) demands; empty when any part of it is unknown.

    One sentence may join several demands: "Use the word 'sea' and ask a question".
    """
    demands = [_checks_of_clause(clause) for clause in _JOINT.split(sentence)]
    return [check for checks in demands for check in checks] if all(demands) else []


def _checks_of_clause(clause: str) -> list[Check]:
    for rule in RULES:
        match = rule.pattern.fullmatch(clause)
        if match is not None:
            return rule.checks(match)
    return []
