"""One declarative adapter for each architecture family."""
