"""Benchmarks: a prompt set each, and how answers to it are judged and scored."""
