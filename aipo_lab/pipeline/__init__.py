"""Algorithm 1: recipes with their profiles, base models, and the graph of stages that follows.

May be imported by execution, tracking, report, sweeps and above.
"""
