"""Reports of a model or a fact, one file each (`db.reports`)."""
