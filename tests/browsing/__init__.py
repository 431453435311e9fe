"""Tests of the page that shows answers side by side."""
