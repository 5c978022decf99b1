"""Small models that the project trains on its own facts."""
