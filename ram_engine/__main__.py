"""`python -m ram_engine` is the console command."""

from ram_engine.cli import main

main()
