"""From an image to its detections, whatever the model is."""
