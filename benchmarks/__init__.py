"""Benchmarks of sbirlib: experiments, speed, durability and the figures of the papers (README.md lists the programs)."""
