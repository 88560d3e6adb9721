"""Runtimes: what executes an artifact, all behind one protocol, and the table of those that exist.

A runtime never times itself and never falls back: it runs what was asked for or raises. Each module imports
without the package that it adapts; that package is imported when a session is opened.
"""

from cnnport.runtimes.protocol import Launch, Options, Runtime, Session
from cnnport.runtimes.table import RUNTIMES, available, get_runtime, require_runtime, settings_for

__all__ = [
    "RUNTIMES",
    "Launch",
    "Options",
    "Runtime",
    "Session",
    "available",
    "get_runtime",
    "require_runtime",
    "settings_for",
]
