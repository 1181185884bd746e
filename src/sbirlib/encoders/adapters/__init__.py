"""Adapters: few new parameters inside a pretrained encoder, which itself stays as it is; each begins as that encoder."""
