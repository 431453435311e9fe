"""Executors: where stages run, and the scheduler that gives them stages. One executor a file.

May be imported by sweeps, evaluation and the console.
"""
