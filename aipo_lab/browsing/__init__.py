"""A local web page to look at answers side by side: which entries there are, reading them, and serving the page."""
