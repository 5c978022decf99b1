"""Ways to plan an edit: rules, gradient steps, and recomputing either on other weights."""
