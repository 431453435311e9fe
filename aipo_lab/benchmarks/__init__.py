"""Benchmarks: one folder each, how answers to its prompts are judged and scored; length control.

May be imported by stages, results and above.
"""
