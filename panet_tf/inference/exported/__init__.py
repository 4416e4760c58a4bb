"""Exports in their own runtimes: SavedModel, LiteRT, ONNX Runtime."""
