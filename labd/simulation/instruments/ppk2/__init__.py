"""A simulated Nordic PPK2."""
