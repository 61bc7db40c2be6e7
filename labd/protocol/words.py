"""Reply words of the test harness, and of the boards that relay it.

Sources: github.com/mlcommons/tiny, benchmark/api/internally_implemented.cpp (DUT) and
benchmark/interface (MLCommons interface board); for EEMBC's io-manager the published session logs
of github.com/mlcommons/tiny_results_v0.5 to v1.3.
"""

READY = "m-ready"
"""Ends every reply of a DUT and of an I/O manager."""

BOOTED = "m-init-done"
"""Ends the boot prologue."""

TIMESTAMP_MODE = "m-timestamp-mode-"
"""In the prologue, before the build: ``performance`` or ``energy``."""

LAP = "m-lap-us-"
"""Before a counter in µs, 32 bits."""

NAME = "m-name-"
PROFILE = "m-profile-["
MODEL = "m-model-["
LOAD_DONE = "m-load-done"
WARMUP_START = "m-warmup-start-"
INFER_START = "m-infer-start-"
INFER_DONE = "m-infer-done"
RESULTS = "m-results-["

RELAY_ECHO = "m-dut-passthrough("
"""Before the command that a board relays, as the board received it."""

RELAYED = "[dut]: "
"""Before every line that a board relays from the DUT."""

DUTY_STARTS = "Duty cycle start times"
DUTY_STOPS = "Duty cycle stop times"
"""Headings of the interface board's log of its processing pin."""

COUNTER_MODULUS = 1 << 32
"""Microsecond counters of DUTs and tick counters of I/O managers have 32 bits."""
