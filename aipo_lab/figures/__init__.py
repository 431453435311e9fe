"""Figures: one file each, `get_<figure>_data()` then `draw_<figure>()`.

May be imported by tracking, report and above.
"""
