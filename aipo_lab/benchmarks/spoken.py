"""What a judge says, apart from what it thinks aloud: verdicts are read from the former alone."""

from __future__ import annotations

import re

_NAMES = "think|thinking|thought|reasoning"
_OPEN, _CLOSE = rf"(?:<(?:{_NAMES})>|\[THINK\])", rf"(?:</(?:{_NAMES})>|\[/THINK\])"
_BLOCK = re.compile(rf"{_OPEN}.*?{_CLOSE}", re.DOTALL | re.IGNORECASE)
_END_OF_BLOCK = re.compile(rf"\A.*{_CLOSE}", re.DOTALL | re.IGNORECASE)
_UNCLOSED = re.compile(rf"^[ \t]*{_OPEN}.*\Z", re.DOTALL | re.IGNORECASE | re.MULTILINE)
_ANY_TAG = re.compile(rf"{_OPEN}|{_CLOSE}", re.IGNORECASE)


def spoken(reply: str) -> str:
    """The reply without its blocks of thought, in the tags that open models use.

    A block whose beginning is missing (the chat template wrote it) ends at its closing tag; one without end, at the
    start of a line, takes the rest: the reply was cut off while thinking. Inside a line such a tag is a mere mention.
    """
    if not _ANY_TAG.search(reply):
        return reply
    return _UNCLOSED.sub("", _END_OF_BLOCK.sub("", _BLOCK.sub("", reply)))
