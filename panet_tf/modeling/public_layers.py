"""The paper's layers, for anybody's tf_keras model: `panet_tf.layers`.

Each takes plain arguments and knows no configuration. Levels are keys: {'2':
a map at a quarter of the image's side, '3': at an eighth, and so on}.
"""

from panet_tf.modeling import adaptive_feature_pooling
from panet_tf.modeling import bottom_up_path
from panet_tf.modeling import box_head
from panet_tf.modeling import feature_pyramid
from panet_tf.modeling import fully_connected_fusion
from panet_tf.modeling.layers import deformable_conv
from panet_tf.modeling.layers import grouped_conv
from panet_tf.modeling.layers import normalization

# Figure 1a; sections 3.1, 3.2, 3.3.
FeaturePyramid = feature_pyramid.FeaturePyramid
BottomUpPath = bottom_up_path.BottomUpPath
AdaptiveFeaturePooling = adaptive_feature_pooling.AdaptiveFeaturePooling
SingleLevelPooling = adaptive_feature_pooling.SingleLevelPooling
LevelFusion = adaptive_feature_pooling.LevelFusion
AdaptiveBoxHead = box_head.AdaptiveBoxHead
FullyConnectedFusion = fully_connected_fusion.FullyConnectedFusion

# What they are made of: section 4.2, Appendix B.
Normalization = normalization.Normalization
ConvNorm = normalization.ConvNorm
DenseNorm = normalization.DenseNorm
PaddedConv2D = grouped_conv.PaddedConv2D
DeformableConv2D = deformable_conv.DeformableConv2D
