"""What kndb ships: its own facts and templates, and the lab models trained on them."""
