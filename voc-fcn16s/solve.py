"""FCN-16s on PASCAL VOC, from FCN-32s: 25 rounds of 4000 steps, a scoring after each.

    python voc-fcn16s/solve.py [GPU] [--data DIR] [--weights FILE] [--variant NAME] [--learning WAY]
"""
from __future__ import division, print_function

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))
import recipe
import surgery
import net

BASE = '../voc-fcn32s/voc-fcn32s.caffemodel'
VGG16 = '../ilsvrc-nets/vgg16-fcn.caffemodel'


def solve():
    bases = {None: BASE, 'learned-interp': BASE, 'pool4': VGG16}
    with recipe.begin(__file__, net, steps=4000, rounds=25, base=bases) as run:
        if run.fresh:
            # score_pool4 is not in the file and starts at zero, so the first scores are those of FCN-32s
            run.load()
            # upsampling is bilinear, and stays so: these layers have a learning rate of zero
            surgery.interp(run.solver.net, [name for name in run.solver.net.params if 'up' in name])

        for _ in run.rounds():
            run.step()
            run.score()


if __name__ == '__main__':
    sys.exit(recipe.main(solve))
