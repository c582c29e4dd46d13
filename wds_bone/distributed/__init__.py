"""Many processes become one run; what the machine has."""
