"""The pages of the documentation, for `kndb docs`; `kndb.manual` lists them."""
