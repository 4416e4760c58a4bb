"""Files on disk, without TensorFlow: COCO JSON, shards, images, proposals."""
