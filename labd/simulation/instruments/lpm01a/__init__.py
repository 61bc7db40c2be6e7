"""A simulated X-NUCLEO-LPM01A."""
