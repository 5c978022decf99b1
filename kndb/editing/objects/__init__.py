"""Edit objects, the files that hold an edit's bytes, and the value slots and parameters that they change."""
