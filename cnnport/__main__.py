"""``python -m cnnport`` is the command line."""

import sys

from cnnport.cli import main

if __name__ == "__main__":
    sys.exit(main())
