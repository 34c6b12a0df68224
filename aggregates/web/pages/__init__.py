"""Pages for people. Charts and live numbers are not part of a page: its stream delivers them."""
