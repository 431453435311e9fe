"""The `llm_judge` ranker: a language model, the policy itself or another, gives scores or verdicts in words."""

from aipo_lab.ranking.llm_judge import ranker  # noqa: F401 - registers it
