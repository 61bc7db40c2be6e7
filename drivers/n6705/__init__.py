"""Keysight N6705 power analyser, over a TCP socket or VISA.

Source: N6705C Operating and Service Guide, chapter 4 (ELOG, the external data logger), and
EEMBC's published example for this instrument (sourcing). Not tried on an instrument.

Modules: ``config``, ``elog`` (logger settings, and one run of the logger), ``driver``.
"""
