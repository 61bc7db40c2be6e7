"""labd: runs MLPerf Tiny benchmarks on a lab of microcontroller boards, unattended."""

__version__ = "0.1.0"
