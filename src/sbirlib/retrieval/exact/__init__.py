"""Exact retrieval metrics, with ties, in bounded memory.

Read in this order: `reference` defines every metric in a few lines, and is slow; `metrics` has the same metrics as formulas over a
`Ranking`; `ranking` finds the ranks of the relevant photos; `counting` and `product` make that fast; `evaluate` puts them together.
"""
