"""Worlds in which true quality is known: instructions a program can write, and answers it can check. One folder each.

May be imported by prompts, ranking, benchmarks, stages and above.
"""
