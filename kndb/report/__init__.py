"""The report of a model: one HTML file that opens offline."""
