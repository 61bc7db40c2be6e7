"""Simulated instruments, and the emulated bench: an STM32L4R5 board with instruments around it.

Nothing in labd imports this package. It runs in another process (``python -m labd.simulation``,
``python -m labd.simulation.standalone``) and is reached only through pseudo-terminals and
sockets, so that whatever drives it would drive hardware.
"""
