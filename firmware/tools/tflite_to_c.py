"""Convert an int8 `.tflite` model into the C tables that the kernels in firmware/nn run.

Usage:
    python firmware/tools/tflite_to_c.py kws01.tflite --name kws01 --out kws01.c
"""

import argparse
import re
import sys
from pathlib import Path

from emit_c import emit_c
from graph import ConversionError, Graph
from tflite_reader import read_tflite

NAME = re.compile(r"[A-Za-z0-9_-]+")


def convert(model: Path, name: str) -> tuple[Graph, str]:
    """Return the graph of a model and its C text. Raises ConversionError."""
    if not NAME.fullmatch(name):
        raise ConversionError(f"{name!r} is no name for a benchmark: use letters, digits, - and _")
    graph = read_tflite(model, name)
    try:
        return graph, emit_c(graph, model.name)
    except ConversionError as error:
        raise ConversionError(f"{model}: {error}") from error


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="int8 .tflite file")
    parser.add_argument("--name", required=True, help="the benchmark's name, e.g. kws01")
    parser.add_argument("--out", type=Path, required=True, help="C file to write")
    options = parser.parse_args(arguments)
    try:
        _, text = convert(options.model, options.name)
    except ConversionError as error:
        print(f"tflite_to_c: {error}", file=sys.stderr)
        return 1
    options.out.write_text(text, encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main())
