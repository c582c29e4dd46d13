"""Run several processes as one, and find out what the machine supports."""
