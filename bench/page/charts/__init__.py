"""Vega-Lite specifications: numbers in, a drawing's description out; nothing here knows where numbers come from."""
