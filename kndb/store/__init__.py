"""The SQLite store: engine and pragmas, tables, schema versions, reads and writes. Imports no torch."""
