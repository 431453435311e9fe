"""Layers of Llama-like models whose gradients are written by hand: fewer passes over memory, fewer numbers kept."""
