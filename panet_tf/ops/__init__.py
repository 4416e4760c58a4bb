"""Operations in a graph, pure functions: RoIAlign, NMS, boxes, masks."""
