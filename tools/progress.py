"""What a training says while it runs: how fast, how long still, the loss; and whether its first loss is right."""
from __future__ import division, print_function

import math
import time

import numpy as np

import segfiles

EVERY = 30      # seconds between two lines


class Progress(object):
    """Follows a Run iteration by iteration. begin(end) starts a round, report() says a line.

    iter_size: how many forwards an iteration has; what is said of the loss is of the last of them. events: an
    events.Training, which is told each iteration's losses.
    """

    def __init__(self, run, iter_size, events):
        self.run, self.events = run, events
        blobs, task = run.solver.net.blobs, run.tasks[0]
        self.iter_size, self.batch = iter_size, iter_size * blobs[task.label].data.shape[0]
        self.pixelwise = len(blobs[task.score].data.shape) == 4
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
        losses = [float(net.blobs[task.loss].data.flat[0]) for task in run.tasks]
        loss = sum(losses)
        pixels = int(np.count_nonzero(net.blobs[run.tasks[0].label].data != segfiles.IGNORE))
        if not np.isfinite(loss):
            raise ValueError('the loss is %s at iteration %d: base_lr is too high for these weights, or the data holds '
                             'what it should not; lower base_lr in solver.prototxt. The last snapshot is unharmed'
                             % (loss, run.solver.iter))
        if run.solver.iter == 0 and self.pixelwise and self.batch == self.iter_size:
            check_first_loss(net, run.tasks, loss, run.mean)
        self._round.append((loss, pixels))
        self.events.iteration(run.solver.iter, [(task.name, value) for task, value in zip(run.tasks, losses)])
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
        shown = '%.0f, %.4f a pixel' % (loss, loss / max(pixels, 1)) if self.pixelwise and not self.run.mean else \
            '%.4f' % loss
        print('iteration %d of %d: loss %s; %.2f images/s; %s left'
              % (at, self.run.total, shown, rate * self.batch, duration(left)))
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


def check_first_loss(net, tasks, loss, mean):
    """Say whether the first loss of a fresh net is what zero scores give: (pixels that count) x ln (classes), of each task.

    loss: what Caffe said, of all tasks. mean: it is the mean over the pixels that count. The sum is taken again in double
    precision, from the scores: Caffe's CPU code adds in single precision and loses a little, which is said too. Scores
    that are not zero, because the weights bring score layers along, are said.
    """
    exact, wanted, terms, zeros = 0., 0., [], True
    for task in tasks:
        scores, label = net.blobs[task.score].data[0].astype(np.float64), net.blobs[task.label].data[0, 0].astype(int)
        counts = label != segfiles.IGNORE
        pixels = int(np.count_nonzero(counts))
        by = max(pixels, 1) if mean else 1
        exact += summed_loss(scores, label, counts) / by
        wanted += pixels * math.log(len(scores)) / by
        terms.append('%s ln %d' % ('%d valid pixels x' % pixels if not mean else 'the mean of', len(scores)))
        zeros = zeros and not scores.any()
    off = 100 * (loss / exact - 1) if exact else 0.     # no pixel counts: an image of which all is ignored
    print('first loss = %.6g %s %s = %.6g%s; Caffe printed %.6g%s'
          % (exact, '=' if '%.6g' % exact == '%.6g' % wanted else 'is not', ' + '.join(terms), wanted,
             '' if zeros else ': the weights bring score layers that are not zero', loss,
             ', %+.2g %%, as it adds in single precision' % off if abs(off) > 0.001 else ''))


def summed_loss(scores, label, counts):
    """The loss of scores (float64 [C, H, W]) for a label [H, W], summed over the pixels that count (bool [H, W])."""
    rows, columns = np.ogrid[:label.shape[0], :label.shape[1]]
    top = scores.max(0)
    losses = top + np.log(np.exp(scores - top).sum(0)) - scores[np.where(counts, label, 0), rows, columns]
    return float(losses[counts].sum())
