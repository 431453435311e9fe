"""A policy in memory: loading, chat templates, tokens, fingerprints.

May be imported by training, generation and above.
"""
