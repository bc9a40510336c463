"""Puts this folder, which holds the table of all losses, on the path."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent))
