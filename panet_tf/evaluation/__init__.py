"""From detections to AP: COCO, Cityscapes, proposals."""
