"""Knowledge tests: asking them, making them from edits, finding the step that broke one."""
