"""The command line: parse, call the steps in order, print. Nothing else in cnnport prints or exits."""

from cnnport.cli.main import main

__all__ = ["main"]
