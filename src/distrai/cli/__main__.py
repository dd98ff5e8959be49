"""``python -m distrai.cli``: the same as ``distrai``."""

import sys

from distrai.cli.main import main

sys.exit(main())
