"""From a sweep file to trials, their common graph and a study with its results.

May be imported by evaluation, browsing, console and the command line.
"""
