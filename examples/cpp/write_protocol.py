"""Write Triton's gRPC protocol, which tritonclient brings, as a set of descriptors for protoc."""

from __future__ import annotations

import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from tritonclient.grpc import model_config_pb2, service_pb2

if __name__ == "__main__":
    files = FileDescriptorSet()
    for module in (model_config_pb2, service_pb2):  # what is imported comes first
        module.DESCRIPTOR.CopyToProto(files.file.add())
    Path(sys.argv[1]).write_bytes(files.SerializeToString())
