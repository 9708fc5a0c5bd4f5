"""Where a run says what it does: the console, its train.log, and a metrics file of one JSON object a line.

Caffe's own lines (glog's, from C++ or from the engine) go to train.log, where the parsers people have for them find
them; the console gets what the recipe says, warnings and errors. A run killed at any moment keeps what was written.
"""
from __future__ import division, print_function

import io
import json
import os
import re
import signal
import subprocess
import sys

GLOG = re.compile(r'([IWEF])\d{4}')     # how a line of glog begins: severity, month and day
LOSS = re.compile(r'\] Iteration (\d+)(?: \(.*\))?, loss = (-?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan))\s*$')


def is_quiet(text):
    """True for what Caffe says of severity info: for the log, not for the console."""
    line = GLOG.match(text)
    return line is not None and line.group(1) == 'I'


class Tee(object):
    """A text stream that writes to the console and to a log; lines of Caffe of severity info to the log alone."""

    def __init__(self, console, log):
        self.console, self.log = console, log

    def write(self, text):
        self.log.write(text if isinstance(text, type(u'')) else text.decode('utf-8', 'replace'))
        self.log.flush()
        if not is_quiet(text):
            self.console.write(text)
            self.console.flush()
        return len(text)

    def flush(self):
        self.log.flush()
        self.console.flush()

    def isatty(self):
        return False

    def fileno(self):
        return self.console.fileno()


class Capture(object):
    """From start() to stop(), or in a `with` block, this process writes to the file `path` as well, appending.

    Python's streams are replaced by Tees. Caffe's C++ writes to file descriptor 2, which becomes a pipe to a second
    process (this module run as a script), so that it keeps writing even while C++ holds up Python.
    """

    def __init__(self, path):
        self.path = path

    def start(self):
        """Take the streams over. IOError if the file cannot be written."""
        self._streams = sys.stdout, sys.stderr
        for stream in self._streams:
            stream.flush()
        self._log = io.open(self.path, 'a', encoding='utf-8')
        self._stderr = os.dup(2)
        self._child = subprocess.Popen([sys.executable, os.path.abspath(__file__), self.path], stdin=subprocess.PIPE)
        os.dup2(self._child.stdin.fileno(), 2)
        self._child.stdin.close()
        self._console = os.fdopen(os.dup(self._stderr), 'w', 1)
        sys.stdout, sys.stderr = Tee(self._streams[0], self._log), Tee(self._console, self._log)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def note(self, text):
        """Write to the log alone."""
        self._log.write(text if isinstance(text, type(u'')) else text.decode('utf-8', 'replace'))

    def stop(self):
        """Give the streams back and wait until all is written."""
        sys.stdout, sys.stderr = self._streams
        os.dup2(self._stderr, 2)
        os.close(self._stderr)
        self._child.wait()
        self._console.close()
        self._log.close()


def relay(lines, log, console):
    """The second process: every line to the log; to the console what is no line of severity info, nor a part of one."""
    quiet = False
    for line in lines:
        log.write(line)
        log.flush()
        text = line.decode('utf-8', 'replace')
        if GLOG.match(text) or text.startswith('***'):      # glog puts *** before the stack trace of a fatal error
            quiet = is_quiet(text)
        if not quiet:
            console.write(line)
            console.flush()


def write_atomic(path, text):
    """Write a text file, complete or not at all. IOError or OSError if it cannot be written; nothing is left then."""
    partial = '%s.%d.partial' % (path, os.getpid())
    try:
        with io.open(partial, 'w', encoding='utf-8') as f:
            f.write(text if isinstance(text, type(u'')) else text.decode('utf-8'))
            f.flush()
            os.fsync(f.fileno())
        os.rename(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def read_metrics(path):
    """The objects of a metrics file, a list of dictionaries; none if there is no file. ValueError names a bad line."""
    if not os.path.exists(path):
        return []
    rows = []
    with io.open(path, 'rb') as f:
        for number, line in enumerate(f, 1):
            try:
                rows.append(json.loads(line.decode('utf-8')))
                if not isinstance(rows[-1], dict) or type(rows[-1].get('iteration')) is not int:
                    raise ValueError('wanted an object with an iteration')
            except ValueError as error:
                raise ValueError('%s:%d: not a line of metrics (%s); correct it or remove it: the scoring it held is '
                                 'lost then' % (os.path.abspath(path), number, error))
    return rows


def write_metrics(path, rows):
    """Write all rows, complete or not at all."""
    write_atomic(path, ''.join(json.dumps(row, sort_keys=True) + '\n' for row in rows))


def read_losses(path):
    """The training losses of a log of Caffe: (iterations, losses), two lists.

    An iteration that was done again after a kill counts once, with its later line. A line that was cut off counts nothing.
    """
    losses = {}
    with io.open(path, encoding='utf-8', errors='replace') as f:
        for line in f:
            found = LOSS.search(line)
            if found:
                losses[int(found.group(1))] = float(found.group(2))
    return sorted(losses), [losses[i] for i in sorted(losses)]


if __name__ == '__main__':
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # Ctrl-C is for the first process, whose last words go through here
    stdin, stderr = [getattr(stream, 'buffer', stream) for stream in (sys.stdin, sys.stderr)]
    with open(sys.argv[1], 'ab') as logfile:
        relay(iter(stdin.readline, b''), logfile, stderr)
