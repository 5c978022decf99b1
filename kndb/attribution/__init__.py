"""Quadrature rules and the integrated-gradients engine. Imports no SQLAlchemy."""
