"""Where the time of a run goes, layer by layer.

``probes`` asks a runtime for its kernels in a process of its own; ``layers`` puts these to the nodes of the file and
the modules of the network; ``roof`` holds them to what the machine can do; ``record`` is what is left of it all, and
``limits``, ``diff``, ``chrome`` and ``table`` say it in words, against another, as a trace and to people.
"""

from cnnport.measuring.profiling.chrome import chrome_trace
from cnnport.measuring.profiling.diff import Diff, diff
from cnnport.measuring.profiling.record import Profile, ProfiledLayer, json_text, read_profile
from cnnport.measuring.profiling.run import profile
from cnnport.measuring.profiling.table import render, render_diff

__all__ = [
    "Diff",
    "Profile",
    "ProfiledLayer",
    "chrome_trace",
    "diff",
    "json_text",
    "profile",
    "read_profile",
    "render",
    "render_diff",
]
