"""FCN-32s on NYUDv2 in its variants, color if none is named: 50 rounds of 2000 steps, a scoring after each.

    python nyud-fcn32s/solve.py [GPU] [--variant color | hha | color-d | color-hha | color-hha-16s] [--learning WAY]

color, hha and color-d start from a classifier made convolutional, color-hha from the best of color and of hha, and
color-hha-16s from the best of color-hha.
"""
from __future__ import division, print_function

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))
import recipe
import surgery
import net

VGG16 = recipe.Base('../ilsvrc-nets/vgg16-fcn.caffemodel', [], '')
BASE = {
    'color': [VGG16],
    'hha': [VGG16],
    'color-d': [VGG16],
    'color-hha': [recipe.Base('color.caffemodel', ['nyud-color'], 'color'),
                  recipe.Base('hha.caffemodel', ['nyud-hha'], 'hha')],
    'color-hha-16s': [recipe.Base('color-hha.caffemodel', ['nyud-color-hha'], '')],
}


def solve():
    with recipe.begin(__file__, net, steps=2000, rounds=50, base=BASE, splits=('trainval', 'test'), variant='color') as run:
        if run.fresh:
            # score layers are not in a classifier and start at zero; two nets bring theirs along
            for path in run.load():
                if run.variant == 'color-d':
                    # conv1_1 has three channels, this has four; depth starts as if it were gray light
                    print(surgery.extend_inputs(run.solver.net, 'conv1_1_bgrd', surgery.Weights(path), 'conv1_1'))
            # upsampling is bilinear, and stays so: these layers have a learning rate of zero
            surgery.interp(run.solver.net, [name for name in run.solver.net.params if 'up' in name])

        for _ in run.rounds():
            run.step()
            run.score()


if __name__ == '__main__':
    sys.exit(recipe.main(solve))
