"""What a graph costs on paper: arithmetic and traffic, neither of which is time.

FLOPs: two for every multiply-add of a convolution or matrix product, products with padding included, biases not; one
for every element that another operator computes, or reads where it reads more (pooling, reductions); none for
operators that only move or select.

Bytes are counted in two ways. ``cost_of`` takes the file at its word, every node by itself, so that differences
between two graphs of one network tell what a rewrite saves. ``costs`` counts what a runtime has to read and write
that computes these operators well, which is what measured times are to be held against.
"""

from cnnport.graphs.cost.nodes import Cost, NodeCosts, costs
from cnnport.graphs.cost.totals import GraphCost, cost_of, node_costs

__all__ = ["Cost", "GraphCost", "NodeCosts", "cost_of", "costs", "node_costs"]
