"""Continuous batching with a transformers model: prompts computed once, ended completions replaced at every step.

Imported by the engines that use it, when they generate: its modules need torch and transformers.
"""
