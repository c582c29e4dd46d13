"""Read film files into upright 8-bit gray images."""
