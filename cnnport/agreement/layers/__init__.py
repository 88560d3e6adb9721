"""Where a network departs: looked into at the boundaries of what a runtime fuses, layer by layer.

``localise`` directs. ``side`` is who is compared; ``graph`` and ``sites`` are a file and the places in it that can
be read, ``fusions`` sees that reading changes no kernel; ``reference_values`` and ``torch_values`` are what the
reference says there, ``compared`` goes through the network part by part with ``store`` on the disk; ``cut`` and
``isolated`` run layers by themselves, ``search`` finds the first that is at fault, ``narrowing`` the node of it,
``exactness`` tells faults from rounding and files from runtimes, ``scales`` judges those of 8 bits; ``distance``,
``manner``, ``modules`` and ``file_differences`` say what it is; ``reproduction`` writes the smallest piece that
shows it.
"""

from cnnport.agreement.layers.localisation import Culprit, Layer, Localisation
from cnnport.agreement.layers.localise import localise
from cnnport.agreement.layers.side import Side

__all__ = ["Culprit", "Layer", "Localisation", "Side", "localise"]
