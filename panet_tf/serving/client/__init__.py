"""Requests to a TensorFlow Serving, over REST or gRPC."""
