"""Data files and models with pinned hashes: what each is, and where it lies once it was fetched.

May be imported by models, worlds, benchmarks and above.
"""
