"""One program per question."""
