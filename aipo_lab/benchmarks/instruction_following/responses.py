"""Official response files of IFEval and IFBench: JSON lines with `prompt` and `response`."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from aipo_lab.benchmarks.official_rows import OfficialFile


class _Row(BaseModel):
    prompt: str
    response: str


def plain(prompt: str) -> str:
    """A prompt as files are compared by it: published ones lost double quotes and white space on their way."""
    return " ".join(prompt.replace('"', "").split())


def read_responses(path: Path) -> dict[str, str]:
    """Responses by `plain` prompt.

    Raises `UserError` for another kind of file and for two different responses to a prompt.
    """
    file = OfficialFile.read(path, "a file of responses (JSON lines with the keys prompt and response)")
    found: dict[str, str] = {}
    for (line, _), row in zip(file.rows, file.shaped(_Row.model_validate), strict=True):
        prompt = plain(row.prompt)
        if found.setdefault(prompt, row.response) != row.response:
            file.add(line, "another response to a prompt that already has one")
    file.refuse_if_wrong()
    return found
