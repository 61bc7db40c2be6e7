"""``python -m labd.virtual``: see :mod:`labd.virtual.bench`."""

from __future__ import annotations

import importlib.util
import sys

if importlib.util.find_spec("unicorn") is None:
    sys.exit("the emulated bench needs unicorn: install labd with the extra 'emulator'")

from labd.virtual.bench import main

sys.exit(main())
