"""What travels between the rooms, in NumPy: detections and masks."""
