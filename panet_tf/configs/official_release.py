"""The authors' PyTorch release (github.com/ShuLiu1993/PANet) as a preset.

Its `configs/panet/*.yaml`, on top of the defaults of Detectron.pytorch it is
built on. Each field is where the release and the paper part.
"""

from official.vision.configs import maskrcnn

from panet_tf.configs import panet

# Released config: what of the preset it changes, by name of the config.
CONFIGS = {
    'e2e_panet_R-50-FPN_2x_mask': {},
    'e2e_panet_R-50-FPN_1x_det': {'include_mask': False},
    'e2e_panet_R-50-FPN_1x_det_2fc': {'include_mask': False, 'box_head': '2fc'},
}


def model() -> panet.PANet:
  """The model with masks, on COCO."""
  return panet.PANet(
      num_classes=81, input_size=[1408, 1408, 3],
      normalization='group', rpn_normalization='none',
      norm_after_fc=False, norm_after_upconv=False, fc_relu=True,
      legacy_boxes=True,
      roi_align=panet.RoIAlign(aligned=False),
      backbone=panet.Backbone(
          stride_in_1x1=True, frozen_stages=2, normalization='frozen'),
      pixels=panet.PixelsConfig(
          color_order='bgr', mean=[102.9801, 115.9465, 122.7717],
          stddev=[1.0, 1.0, 1.0]),
      # The release counts height / width: 0.5, 1, 2 are wide, square, tall.
      anchor=maskrcnn.Anchor(aspect_ratios=[2.0, 1.0, 0.5], anchor_size=8.0),
      roi_generator=maskrcnn.ROIGenerator(
          pre_nms_top_k=2000, num_proposals=2000, test_pre_nms_top_k=1000,
          test_num_proposals=1000),
      detection_generator=maskrcnn.DetectionGenerator(
          pre_nms_score_threshold=0.05, nms_iou_threshold=0.5,
          max_num_detections=100, nms_version='batched'))
