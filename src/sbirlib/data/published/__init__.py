"""The datasets of the literature, read from the folders in which they are published, with the splits that are published for them."""
