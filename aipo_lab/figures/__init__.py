"""Figures: one file each, `get_<figure>_data()` then `draw_<figure>()`."""
