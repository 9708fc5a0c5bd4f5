"""FCN-8s on PASCAL-Context, from FCN-16s: 50 rounds of 8000 steps, a scoring after each.

    python pascalcontext-fcn8s/solve.py [GPU] [--data DIR] [--weights FILE] [--learning WAY]
"""
from __future__ import division, print_function

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))
import recipe
import surgery
import net


def solve():
    with recipe.begin(__file__, net, steps=8000, rounds=50, foreground=True,
                      base='../pascalcontext-fcn16s/pascalcontext-fcn16s.caffemodel') as run:
        if run.fresh:
            # score_pool3 is not in the file and starts at zero, so the first scores are those of FCN-16s
            run.load()
            # upsampling is bilinear, and stays so: these layers have a learning rate of zero
            surgery.interp(run.solver.net, [name for name in run.solver.net.params if 'up' in name])

        for _ in run.rounds():
            run.step()
            run.score()


if __name__ == '__main__':
    sys.exit(recipe.main(solve))
