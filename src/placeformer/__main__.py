"""The command line as ``python -m placeformer``."""

import sys

from placeformer.cli import main

if __name__ == "__main__":
    sys.exit(main())
