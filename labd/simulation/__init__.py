"""Simulated instruments, and the emulated bench: an STM32L4R5 board with instruments around it.

Nothing in labd imports this package. It runs in processes of its own (:mod:`.bench_process`,
:mod:`.instrument_process`) and is reached only through pseudo-terminals and sockets, so a program
that works with it also works with hardware.
"""
