"""`python -m airside`."""

import sys

from airside.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
