"""The pair trainer: batches, log-probabilities, the optimisation loop, several processes.

May be imported by stages, pipeline and above.
"""
