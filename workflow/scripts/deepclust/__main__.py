"""The command `deepclust`, as `python -m deepclust`."""

import sys

from deepclust.cli.main import main

sys.exit(main())
