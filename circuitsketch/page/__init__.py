"""A page on which to ask: the same view served to a browser, written to one file, or shown in a notebook."""
