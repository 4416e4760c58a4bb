"""Datasets of other formats, and drawn ones, as COCO instances."""
