"""The pair trainer: batches, log-probabilities and the optimisation loop."""
