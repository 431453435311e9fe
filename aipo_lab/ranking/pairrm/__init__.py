"""The `pairrm` ranker: LLM-Blender's PairRM, which compares two candidates at a time. Importing it registers it."""

from aipo_lab.ranking.pairrm import ranker as ranker
