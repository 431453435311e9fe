"""Stages: the steps of one iteration, one file each. A stage is a pure function of its config and inputs."""
