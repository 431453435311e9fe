"""A local web page to look at answers side by side: its entries, reading them, serving the page.

Imported by console only.
"""
