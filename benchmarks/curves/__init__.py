"""How cost grows: what `benchmarks/scaling.py` measures, one module for each of its parts."""
