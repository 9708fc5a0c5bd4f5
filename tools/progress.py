"""What a training says while it runs: how fast, how long still, the loss; and whether its first loss is right."""
from __future__ import division, print_function

import math
import time

import numpy as np

import segfiles

EVERY = 30      # seconds between two lines


class Progress(object):
    """Follows a Run iteration by iteration. begin(end) starts a round, report() says a line."""

    def __init__(self, run):
        self.run = run
        self.end = None
        self.begin(None)

    def begin(self, end):
        """A round that ends at iteration `end` begins."""
        self.end = end
        self._round = []        # (loss, pixels that count) of each iteration
        self._begun = self._said = time.time()
        self._said_at = 0

    def iteration(self):
        """Between backward and update: note the loss. ValueError if it is not finite: the weights are lost then."""
        run, net = self.run, self.run.solver.net
        loss = float(net.blobs['loss'].data.flat[0])
        pixels = int(np.count_nonzero(net.blobs['label'].data != segfiles.IGNORE))
        if not np.isfinite(loss):
            raise ValueError('the loss is %s at iteration %d: base_lr is too high for these weights, or the data holds '
                             'what it should not; lower base_lr in solver.prototxt. The last snapshot is unharmed'
                             % (loss, run.solver.iter))
        if run.solver.iter == 0 and 'score' in net.blobs:
            check_first_loss(net, loss, pixels)
        self._round.append((loss, pixels))
        if time.time() - self._said > EVERY:
            self.report()

    def report(self):
        """One line: iteration, images a second, loss of the last iterations, time left in this training."""
        now, done = time.time(), len(self._round)
        if done == 0:
            return
        loss, pixels = np.mean(self._round[self._said_at:] or self._round[-1:], axis=0)
        rate = done / max(now - self._begun, 1e-9)
        at = self.run.solver.iter
        left = (self.run.total - at) / rate
        shown = '%.0f, %.4f a pixel' % (loss, loss / max(pixels, 1)) if 'score' in self.run.solver.net.blobs else \
            '%.4f' % loss
        print('iteration %d of %d: loss %s; %.2f images/s; %s left'
              % (at, self.run.total, shown, rate * self.run.batch, duration(left)))
        self._said, self._said_at = now, done


def duration(seconds):
    """A time as people say it: 45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    minutes = int(seconds / 60 + 0.5)
    if seconds < 60:
        return '%d s' % seconds
    if minutes < 60:
        return '%d min' % minutes
    hours = minutes // 60
    return '%d h %d min' % (hours, minutes % 60) if hours < 24 else '%d d %d h' % (hours // 24, hours % 24)


def check_first_loss(net, loss, pixels):
    """Say whether the first loss of a fresh net is what zero scores give, (pixels that count) x ln (classes).

    The sum is taken again in double precision, from the scores: Caffe's CPU code adds in single precision and loses a
    little, which is said too. Scores that are not zero, because the weights bring score layers along, are said.
    """
    scores, label = net.blobs['score'].data[0].astype(np.float64), net.blobs['label'].data[0, 0].astype(int)
    classes, height, width = scores.shape
    counts = label != segfiles.IGNORE
    rows, columns = np.ogrid[:height, :width]
    top = scores.max(0)
    losses = top + np.log(np.exp(scores - top).sum(0)) - scores[np.where(counts, label, 0), rows, columns]
    exact, wanted = float(losses[counts].sum()), pixels * math.log(classes)
    off = 100 * (loss / exact - 1) if exact else 0.     # no pixel counts: an image of which all is ignored
    print('first loss = %.6g %s %d valid pixels x ln %d = %.6g%s; Caffe printed %.6g%s'
          % (exact, '=' if '%.6g' % exact == '%.6g' % wanted else 'is not', pixels, classes, wanted,
             ': the weights bring score layers that are not zero' if scores.any() else '', loss,
             ', %+.2g %%, as it adds in single precision' % off if abs(off) > 0.001 else ''))
