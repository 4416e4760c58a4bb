"""Checkpoints from weights of others: the authors' release, ImageNet's."""
