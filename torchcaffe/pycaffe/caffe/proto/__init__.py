"""The messages of Caffe's files, under the name the original has them: `from caffe.proto import caffe_pb2`."""
