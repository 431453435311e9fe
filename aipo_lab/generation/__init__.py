"""Engines: what generates text, one file each."""
