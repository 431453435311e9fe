"""Prompt sources: where the pool of prompts comes from, one file each. May be imported by ranking, stages and above."""
