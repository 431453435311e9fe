"""Stages: the steps of one iteration, one file each; a stage is a pure function of its config and inputs.

May be imported by pipeline, execution and above.
"""
