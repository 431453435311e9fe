"""Prompt pools, one file a source, and existing preference pairs. May be imported by ranking, stages and above."""
