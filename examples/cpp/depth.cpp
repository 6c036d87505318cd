// depth PHOTO OUTPUT.f32 [SERVER]: asks over gRPC, writes the depth as float32, row after row, and tells its size.
// docs/protocol.md says what is sent; the Makefile beside this file, how it is built.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>

#include "grpc_service.grpc.pb.h"

namespace {

constexpr std::chrono::seconds kPatience{60};

std::string contents(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error("no such file: " + path);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// What is asked: the bytes of an image file, and of the answers the depth alone.
inference::ModelInferRequest depth_request(std::string image) {
  inference::ModelInferRequest request;
  request.set_model_name("depth");
  auto* input = request.add_inputs();
  input->set_name("image");
  input->set_datatype("UINT8");
  input->add_shape(static_cast<int64_t>(image.size()));
  request.add_raw_input_contents(std::move(image));
  request.add_outputs()->set_name("depth");
  // Microseconds after which the server's queues drop the request.
  (*request.mutable_parameters())["timeout"].set_int64_param(
      std::chrono::microseconds(kPatience).count());
  return request;
}

inference::ModelInferResponse answer(const std::string& server, const inference::ModelInferRequest& request) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);  // the default, 4 MiB, is the depth of one megapixel
  arguments.SetMaxSendMessageSize(-1);
  auto channel = grpc::CreateCustomChannel(server, grpc::InsecureChannelCredentials(), arguments);
  auto stub = inference::GRPCInferenceService::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  inference::ModelInferResponse response;
  const grpc::Status status = stub->ModelInfer(&context, request, &response);
  if (!status.ok()) {
    throw std::runtime_error(std::to_string(status.error_code()) + ": " + status.error_message());
  }
  return response;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: depth PHOTO OUTPUT.f32 [SERVER]\n";
    return 2;
  }
  try {
    const auto response = answer(argc > 3 ? argv[3] : "127.0.0.1:8001", depth_request(contents(argv[1])));
    const auto& shape = response.outputs(0).shape();
    // Little-endian, as on the wire.
    std::ofstream(argv[2], std::ios::binary) << response.raw_output_contents(0);
    std::cout << shape[0] << " x " << shape[1] << "\n";
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
