"""Byte-level fakes of every instrument and board, behind a pseudo-terminal or a socket.

The contract tests let the drivers talk to them; ``labd fake NAME`` starts one by hand for
people who write or debug drivers. Nothing else imports this package.
"""
