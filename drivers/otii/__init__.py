"""Qoitech Otii Arc and Ace."""
