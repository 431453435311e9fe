"""Asking a judge: what a call is, the client that makes it once, where its reply is kept and what it costs.

May be imported by benchmarks, stages and above.
"""
