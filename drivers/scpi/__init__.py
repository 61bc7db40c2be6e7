"""SCPI instruments over a TCP socket or VISA: what their drivers share.

Implements SCPI-99 and IEEE 488.2-1992 as far as a power monitor needs them: program messages,
response messages, the error queue, and the check of a log's record count by the host's clock.

Modules: ``codec`` (responses; pure), ``resource`` (addresses, TCP socket), ``visa`` (connection
through VISA), ``session`` (queries, commands, errors), ``record_clock`` (check of the record count;
pure), ``record_stream`` (records to samples, gaps and edges; pure), ``polling`` (an acquisition
whose records are polled).
"""
