"""``python -m scratch.data``."""

import sys

from scratch.data.command import main

sys.exit(main())
