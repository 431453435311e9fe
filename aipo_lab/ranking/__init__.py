"""Rankers: what scores candidate responses, one file each."""
