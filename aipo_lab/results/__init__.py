"""Rows of results.csv and the choice of the best of them. May be imported by figures, pipeline and above."""
