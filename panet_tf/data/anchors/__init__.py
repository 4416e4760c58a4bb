"""`panet data anchors`: anchors that fit the boxes of a dataset."""
