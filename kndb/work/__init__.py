"""Work in parts, done by processes elsewhere: the loop that hands parts out (`schedule`), and Ray (`ray_engine`).

Knows no store and no model: who uses it says what a worker prepares, what it is given, and where leases are kept.
"""
