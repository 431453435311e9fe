"""What everything stands on: the store, configuration, errors, hashing, JSON lines, seeds, progress.

Imported by all; imports nothing else of the package.
"""
