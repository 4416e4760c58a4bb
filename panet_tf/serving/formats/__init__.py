"""A file a format: SavedModel, TF-TRT, TFLite, ONNX."""
