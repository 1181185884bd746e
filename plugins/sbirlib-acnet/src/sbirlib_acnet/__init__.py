"""ACNet: a sketch-to-photo generator in front of the encoder, trained jointly."""
