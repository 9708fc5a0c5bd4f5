"""The schema for any protobuf, out of the generated file in torchcaffe, which itself is for new ones only."""
from __future__ import division, print_function

import ast
import os
import re

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

_ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', '..', '..'))
with open(os.path.join(_ROOT, 'torchcaffe', 'proto', 'caffe_pb2.py')) as _f:
    _literal = re.search(r"AddSerializedFile\((b'.*')\)", _f.read()).group(1)
_file = descriptor_pb2.FileDescriptorProto.FromString(ast.literal_eval(_literal))
_messages = message_factory.GetMessages([_file])
globals().update((name.split('.')[-1], message) for name, message in _messages.items())

Phase = EnumTypeWrapper(_messages['caffe.NetParameter'].DESCRIPTOR.file.enum_types_by_name['Phase'])
TRAIN, TEST = Phase.Value('TRAIN'), Phase.Value('TEST')
