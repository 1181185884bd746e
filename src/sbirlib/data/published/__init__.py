"""Published datasets, read from the folders of their archives, with the splits published for them."""
