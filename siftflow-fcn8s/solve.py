"""FCN-8s on SIFT Flow, two tasks, from FCN-16s: 50 rounds of 2000 steps, a scoring after each.

    python siftflow-fcn8s/solve.py [GPU] [--weights FILE] [--learning WAY]
"""
from __future__ import division, print_function

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))
import recipe
import surgery
import net


def solve():
    with recipe.begin(__file__, net, steps=2000, rounds=50, splits=('trainval', 'test'),
                      base='../siftflow-fcn16s/siftflow-fcn16s.caffemodel') as run:
        if run.fresh:
            # the scores from pool3 are not in the file and start at zero, so the first scores are those of FCN-16s
            run.load()
            # upsampling is bilinear, and stays so: these layers have a learning rate of zero
            surgery.interp(run.solver.net, [name for name in run.solver.net.params if 'up' in name])

        for _ in run.rounds():
            run.step()
            run.score()


if __name__ == '__main__':
    sys.exit(recipe.main(solve))
