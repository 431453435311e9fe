"""From ranked candidates to preference pairs: selection, the official filters, and rule-based cleaning of texts.

Pure functions of rows and settings, for the `pair` stage. May be imported by stages and above.
"""
