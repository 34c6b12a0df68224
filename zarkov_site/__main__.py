"""`python -m zarkov_site` is `manage.py` for processes that Zarkov starts itself."""

import sys

from zarkov_site.command_line import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))
