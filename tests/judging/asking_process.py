"""A process that asks a judge, to be run beside others and to be killed: its arguments and its output are JSON.

Arguments: {"settings": {…}, "store": folder, "contents": […], "max_tokens": n}; output: one text or null per content.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from aipo_lab.judging.calls import JudgeReply, JudgeRequest, Message
from aipo_lab.judging.opening import open_judge
from aipo_lab.judging.settings import JudgeSettings


def main() -> None:
    arguments = json.loads(sys.argv[1])
    judge = open_judge(JudgeSettings(**arguments["settings"]), Path(arguments["store"]))
    asked = [
        JudgeRequest((Message("user", content),), arguments["max_tokens"], 0.0) for content in arguments["contents"]
    ]
    outcomes = judge.ask(asked, lambda *_: None)
    print(json.dumps([outcome.text if isinstance(outcome, JudgeReply) else None for outcome in outcomes]))


if __name__ == "__main__":
    main()
