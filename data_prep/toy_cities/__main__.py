"""Runs the command. Worker processes also import this module, so it imports nothing at the top."""

if __name__ == "__main__":
    import sys

    from data_prep.toy_cities.cli import main

    sys.exit(main(sys.argv))
