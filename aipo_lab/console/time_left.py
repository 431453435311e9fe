"""Durations and the time left, as a person says them."""

from __future__ import annotations


def format_duration(seconds: float) -> str:
    """Seconds as a person says them: `8 s`, `2 min 05 s`, `3 h 10 min`, `12 d 15 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole >= 3 * 86400:
        return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def left_text(left_s: float | None) -> str:
    """The time left, or that it is not known."""
    return "time left not known yet" if left_s is None else f"about {format_duration(left_s)} left"
