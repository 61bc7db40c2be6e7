"""The emulated bench: an STM32L4R5 board and the instruments around it, in a process of its own.

Nothing in labd imports this package. It is started as ``python -m labd.simulation`` and reached
only through the pseudo-terminals it makes, so that whatever drives it would drive hardware.
"""
