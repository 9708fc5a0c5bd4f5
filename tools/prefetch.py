"""Loading the next image in the background, while the net computes on the one before."""
from __future__ import division, print_function

import sys
import threading


class Prefetch(object):
    """Calls load(name) ahead of time, one name at a time, in a thread.

    A thread lives as long as its image takes: nothing has to be shut down, and a process that ends waits a moment at most.
    BVLC's Caffe keeps Python's lock while it computes, so there this gains next to nothing; it costs nothing either.
    """

    def __init__(self, load):
        self.load, self._job = load, None

    def take(self, name):
        """load(name), perhaps from the background. What it raised there is raised here."""
        job, self._job = self._job, None
        if job is not None:
            job.join()      # also if it is another's: two loads at once might disturb each other
        if job is None or job.name_of != name or not job.finished:      # a fork leaves threads behind as they were
            return self.load(name)
        if job.error is not None:
            raise job.error
        return job.result

    def begin(self, name):
        """Load this one in the background: it is probably the next to be taken. Nothing if something is loading."""
        if self._job is None:
            self._job = _Job(self.load, name)
            self._job.start()


class _Job(threading.Thread):
    """One call of load. finished: it has returned or raised; result, error: what."""

    def __init__(self, load, name):
        threading.Thread.__init__(self)
        self.load, self.name_of, self.result, self.error = load, name, None, None
        self.finished = False

    def run(self):
        try:
            self.result = self.load(self.name_of)
        except Exception:
            self.error = sys.exc_info()[1]
        self.finished = True
