"""Ways to plan an edit: rules, gradient steps, and computing either anew on other weights."""
