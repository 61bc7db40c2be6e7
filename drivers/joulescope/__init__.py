"""Jetperch Joulescope JS220 and JS110, through Jetperch's driver library on USB.

Source: Jetperch's joulescope_driver and its Python binding ``pyjoulescope_driver`` (topics,
messages, error codes). Not tried on an instrument.

Modules: ``config`` (settings and models), ``library`` (the library, shared by the process),
``usb`` (one instrument: calls, messages, removal), ``sample_blocks`` and ``aligner`` (messages to
samples, gaps and edges; pure), ``driver``.
"""
