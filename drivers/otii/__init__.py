"""Qoitech Otii Arc and Ace, through an Otii server or the Otii desktop app.

Implements the JSON requests of Qoitech's TCP help ("The Otii Server") and its own Python client;
that a growing recording can be read is taken from published clients. Not tried on an instrument:
the timing resolution of the digital inputs (assumed: the 1 kHz of the slow channels, so a pulse
must be longer), the delay until data are in the recording, and the exact texts of errors.

Modules: ``config``, ``messages`` (JSON messages and the data in them; pure), ``session`` (requests,
licence), ``channels`` (one analog channel, length of the recording; pure), ``stream`` (channels to
samples, gaps and edges; pure), ``acquisition``, ``driver``.
"""
