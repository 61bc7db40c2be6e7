"""One model of every instrument and board: its protocol to the byte, and its faults.

Time (an agenda or a clock) and load are passed in. The contract tests run the drivers against
them, ``labd fake NAME`` serves one, ``labd bench`` has three of them around an emulated board.
"""
