"""One file an instrument or board; interfaces.py says what each kind must do."""
