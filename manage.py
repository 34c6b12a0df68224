#!/usr/bin/env python3
"""Entry of every command: takes `-y/--config FILE` and `--set key=value` off the line, then runs Django's."""

import sys

from zarkov_site.command_line import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))
