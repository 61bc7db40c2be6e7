"""Any SCPI meter or source-measure unit, described by a table of its commands.

Implements no manual: the commands come from stations.toml. Modules: ``config`` (the table),
``driver`` (the instrument and its acquisition).
"""
