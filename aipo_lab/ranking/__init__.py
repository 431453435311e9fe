"""Rankers: what scores candidate responses, one file each. May be imported by benchmarks, stages and above."""
