"""Normalization, grouped and deformable convolution."""
