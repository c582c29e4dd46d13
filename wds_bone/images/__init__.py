"""Film files become upright 8-bit gray images."""
