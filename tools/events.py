"""TensorBoard event files, written while a training runs: `tensorboard --logdir voc-fcn32s/run`. Needs no TensorBoard.

A file is a row of records, each its length (uint64), the masked CRC-32C of the length, its bytes, and the masked CRC-32C
of those. A record is an Event in protobuf's wire format, of which this is written:

    Event       wall_time 1 (double), step 2 (int64), file_version 3, summary 5, session_log 7
    Summary     value 1: tag 1, simple_value 2 (float)
    SessionLog  status 1: START is 1
"""
from __future__ import division, print_function

import math
import os
import socket
import struct
import time

from caffemodel import VARINT, encode_field, encode_number

FIXED64, FIXED32 = 1, 5
SCORES = ('mean_iu', 'mean_iu_present', 'overall_acc', 'mean_acc', 'fwavacc', 'accuracy', 'loss')


def _table():
    """What CRC-32C (polynomial 0x1EDC6F41, reflected) makes of each byte."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = _table()


def masked_crc(data):
    """The CRC-32C of bytes, turned and shifted as TFRecord files have it."""
    crc = 0xFFFFFFFF
    for byte in bytearray(data):
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(data):
    """Bytes as a record of the file."""
    length = struct.pack('<Q', len(data))
    return length + struct.pack('<I', masked_crc(length)) + data + struct.pack('<I', masked_crc(data))


def event(wall_time, step=None, content=b''):
    """An Event; content: further fields of it, encoded."""
    # a step of 0 is not written, as in protobuf 3
    return (_key(1, FIXED64) + struct.pack('<d', wall_time) + (_key(2, VARINT) + encode_number(step) if step else b'')
            + content)


def summary(scalars):
    """The field of an Event that holds scalars: (tag, value) pairs."""
    values = b''
    for tag, value in scalars:
        tag = tag if isinstance(tag, bytes) else tag.encode('utf-8')
        values += encode_field(1, encode_field(1, tag) + _key(2, FIXED32) + struct.pack('<f', value))
    return encode_field(5, values)


def _key(number, kind):
    return encode_number(number << 3 | kind)


class Writer(object):
    """An event file in a folder, begun at an iteration: what earlier files of the folder say of later ones is void.

    Every line of figures is in the file when the call returns, so a kill loses nothing.
    """

    def __init__(self, folder, first=0):
        now = time.time()
        name = 'events.out.tfevents.%010d.%s.%d' % (now, socket.gethostname(), os.getpid())
        self._file = open(os.path.join(folder, name), 'ab', 0)
        self._file.write(record(event(now, content=encode_field(3, b'brain.Event:2'))))
        if first:   # a START makes void what is of its own step or later
            self._file.write(record(event(now, first + 1, encode_field(7, _key(1, VARINT) + encode_number(1)))))

    def scalars(self, step, scalars):
        """Add (tag, value) pairs at an iteration."""
        self._file.write(record(event(time.time(), step, summary(scalars))))

    def close(self):
        self._file.close()


class Training(object):
    """What a training tells TensorBoard: loss and learning rate every `display` iterations, and each scoring.

    folder: of the run. param: its SolverParameter. first: the iteration it begins or goes on at.
    """

    def __init__(self, folder, param, first=0):
        self.param, self.every, self._losses = param, param.display or 20, []
        self._writer = Writer(folder, first)

    def iteration(self, iteration, losses):
        """Note the losses of an iteration, (task, loss) pairs; their means over `display` iterations are written."""
        self._losses.append([loss for _, loss in losses])
        if (iteration + 1) % self.every == 0:
            means = [sum(column) / len(self._losses) for column in zip(*self._losses)]
            scalars = [('train/loss', sum(means)), ('train/lr', learning_rate(self.param, iteration))]
            if len(means) > 1:
                scalars += [('train/loss_%s' % task, mean) for (task, _), mean in zip(losses, means)]
            self._writer.scalars(iteration + 1, scalars)
            self._losses = []

    def scored(self, row):
        """Write the figures of a row of metrics, of its further tasks under their names."""
        nested = [('', row)] + sorted((key + '_', value) for key, value in row.items() if isinstance(value, dict))
        self._writer.scalars(row['iteration'], [('val/%s%s' % (task, key), figures[key]) for task, figures in nested
                                                for key in SCORES if figures.get(key) is not None])

    def close(self):
        self._writer.close()


def learning_rate(param, iteration):
    """The learning rate of a solver (SolverParameter) at an iteration, by its lr_policy; ValueError if it is unknown.

    Follows src/caffe/solvers/sgd_solver.cpp.
    """
    policy, base, gamma = param.lr_policy, param.base_lr, param.gamma
    if policy == 'fixed':
        return base
    if policy == 'step':
        return base * gamma ** (iteration // param.stepsize)
    if policy == 'exp':
        return base * gamma ** iteration
    if policy == 'inv':
        return base * (1 + gamma * iteration) ** -param.power
    if policy == 'multistep':
        return base * gamma ** sum(iteration >= value for value in param.stepvalue)
    if policy == 'poly':
        return base * (1 - iteration / param.max_iter) ** param.power
    if policy == 'sigmoid':
        return base / (1 + math.exp(-gamma * (iteration - param.stepsize)))
    raise ValueError('lr_policy is %r; wanted fixed, step, exp, inv, multistep, poly or sigmoid' % str(policy))
