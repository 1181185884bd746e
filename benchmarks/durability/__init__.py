"""Training runs under SIGKILL and on a full disk."""
