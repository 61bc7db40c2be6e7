"""How a benchmark is run on a station: data in, windows out, one file per mode."""
