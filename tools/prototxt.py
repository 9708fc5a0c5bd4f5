"""The one writer of committed prototxts, and a reader that says where a typo is.

protobuf's own printer has changed between versions (1 or 1.0, quotes, escapes), so committed text would change with
the machine it was made on. `text` gives the same bytes under protobuf 2.6 to 7 and Python 2.7 and 3: fields in order
of their numbers, floats in as few digits as give the same float32 (`lr_mult: 1`), enums by name, strings in ASCII. Only
the header, which may name a file of any name, is UTF-8.
Works for a message of any schema; no caffe is imported.
"""
from __future__ import division, print_function

import difflib
import io
import os
import re
import struct
import tempfile

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor


def text(message, header=None):
    """The message as canonical prototxt (unicode); `header`, if given, is put above it as '# ' comment lines."""
    if isinstance(header, bytes):   # a path under Python 2
        header = header.decode('utf-8', 'replace')
    lines = [u'# ' + line for line in header.splitlines()] if header is not None else []
    _print(message, '', lines)
    return u''.join(u'%s\n' % line for line in lines)


def _print(message, indent, lines):
    for field, held in message.ListFields():    # set fields only, in order of their numbers
        for value in held if hasattr(held, 'extend') else [held]:
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                lines.append('%s%s {' % (indent, field.name))
                _print(value, indent + '  ', lines)
                lines.append(indent + '}')
            else:
                lines.append('%s%s: %s' % (indent, field.name, _scalar(field, value)))


def _scalar(field, value):
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return '"%s"' % _escaped(value)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return field.enum_type.values_by_number[value].name
    if field.type == FieldDescriptor.TYPE_BOOL:
        return 'true' if value else 'false'
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return _shortest(value, '<f', range(6, 10))     # 6 decimal digits survive a float32, 9 tell all of them apart
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return _shortest(value, '<d', range(15, 18))    # the same of a float64
    return '%d' % value


def _shortest(value, kind, digits):
    """The shortest of %.6g, %.7g, ... that reads back as the same number of this kind (a struct format)."""
    exact = struct.pack(kind, value)
    for n in digits:
        shown = '%.*g' % (n, value)
        if struct.pack(kind, float(shown)) == exact:
            break
    return shown


def _escaped(value):
    """A string or bytes as protobuf's text format has it: C escapes, everything outside ASCII in octal UTF-8 bytes."""
    named = {9: '\\t', 10: '\\n', 13: '\\r', 34: '\\"', 39: "\\'", 92: '\\\\'}
    raw = bytearray(value if isinstance(value, bytes) else value.encode('utf-8'))
    return ''.join(named.get(b) or (chr(b) if 32 <= b < 127 else '\\%03o' % b) for b in raw)


def write(path, message, header=None):
    """Write `text(message, header)` to `path`, complete or not at all; True if the file is new or another than before.

    A file that already has these bytes is left alone, its time stamp included. Raises OSError or IOError with the path.
    """
    data = text(message, header).encode('utf-8', 'replace')     # what a path may hold and UTF-8 not becomes ?
    if os.path.exists(path):
        with io.open(path, 'rb') as f:
            if f.read() == data:
                return False
    handle, partial = tempfile.mkstemp('.partial', os.path.basename(path) + '.', os.path.dirname(os.path.abspath(path)))
    try:
        with io.open(handle, 'wb') as f:
            f.write(data)
        os.chmod(partial, 0o644)    # mkstemp's 0600 would keep the file from others
        os.rename(partial, path)
    except BaseException:
        os.remove(partial)
        raise
    return True


class PrototxtError(ValueError):
    """A prototxt that does not parse: file, line, column, what was found, the nearest name there is."""


def read(path, message):
    """Fill `message` (e.g. a new NetParameter) from a prototxt and return it.

    IOError if the file cannot be read, PrototxtError if it is no text of such a message.
    """
    if not os.path.isfile(path):
        raise IOError('%s: no such file; wanted a prototxt' % os.path.abspath(path))
    with io.open(path, 'rb') as f:
        data = f.read()
    try:
        lines = data.decode('utf-8').splitlines()
    except UnicodeDecodeError as error:
        raise PrototxtError('%s is no prototxt: byte %d is no UTF-8 text (a binary file, perhaps a caffemodel?)'
                            % (path, error.start))
    try:
        return text_format.Parse(data, message)
    except text_format.ParseError as error:
        raise PrototxtError('%s:%s' % (path, _explained(str(error), lines, message.DESCRIPTOR)))


def _explained(complaint, lines, descriptor):
    """protobuf's complaint ('12:5 : Message type "caffe.X" has no field named "y".') with the line and the near names.

    Only the beginning of the complaint and the names in it are relied on; the wording differs between versions.
    """
    where = re.match(r'(\d+):(\d+) : ', complaint)
    if where and int(where.group(1)) <= len(lines):
        line = lines[int(where.group(1)) - 1]
        said = complaint[where.end():].replace("'%s': " % line, '')     # newer versions quote the line themselves
        complaint = '%s:%s: %s\n    %s' % (where.group(1), where.group(2), said, line.strip())
    unknown = re.search(r'type "([\w.]+)" has no (?:field|value) named "?(\w*)', complaint)
    if unknown:
        names = _names(descriptor, unknown.group(1), set())
        near = difflib.get_close_matches(unknown.group(2), names, 1)
        plain = [name for name in names if not name.endswith('_param')]     # a layer has fifty of those
        complaint += '\n    %sKnown here: %s%s' % ('Did you mean %s? ' % near[0] if near else '', ', '.join(plain),
                                                   ', and ..._param' if len(plain) < len(names) else '')
    return complaint


def _names(descriptor, full_name, seen):
    """The field names of the message, or value names of the enum, of this full name, below a message descriptor."""
    if descriptor.full_name == full_name:
        return [field.name for field in descriptor.fields]
    seen.add(descriptor.full_name)
    for field in descriptor.fields:
        if field.enum_type is not None and field.enum_type.full_name == full_name:
            return [value.name for value in field.enum_type.values]
        if field.message_type is not None and field.message_type.full_name not in seen:
            found = _names(field.message_type, full_name, seen)
            if found:
                return found
    return []
