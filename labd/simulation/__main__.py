"""``python -m labd.simulation``: see :mod:`labd.simulation.bench_process`."""

from __future__ import annotations

import importlib.util
import sys

if importlib.util.find_spec("unicorn") is None:
    sys.exit("the emulated bench needs unicorn: pip install 'labd[emulator,broker]'")

from labd.simulation.bench_process import main

sys.exit(main())
