"""Runs the command; worker processes import this module too, so it imports nothing by itself."""

if __name__ == "__main__":
    import sys

    from data_prep.toy_cities.cli import main

    sys.exit(main(sys.argv))
