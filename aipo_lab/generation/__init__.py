"""Engines: what generates text, one file each; and self-instruct.

May be imported by worlds, benchmarks, stages and above.
"""
