"""Results from elsewhere, and results for elsewhere: one file per format."""
