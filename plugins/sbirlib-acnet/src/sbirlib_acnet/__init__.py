"""ACNet: a sketch-to-photo generator in front of the encoder, and both trained together."""
