#include <cstring>
#include <string>
#include <vector>

#include "shoal/base/error.hpp"
#include "shoal/io/atomic_file.hpp"
#include "shoal/io/safetensors.hpp"
#include "shoal/nn/model_layout.hpp"
#include "shoal/text/tokenizer.hpp"
#include "shoal/train/checkpoint.hpp"
#include "shoal/train/huggingface.hpp"
#include "train/huggingface_names.hpp"

namespace shoal::train {
namespace {

namespace fs = std::filesystem;

/// Floats as elements of `dtype` (f32, bf16, f16), rounded to nearest.
std::vector<std::byte> to_bytes(std::span<const float> values, DType dtype) {
  std::vector<std::byte> bytes(values.size() * static_cast<std::size_t>(size_of(dtype)));
  with_elem(dtype, [&]<class Elem>(Elem) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Elem element = from_float<Elem>(values[i]);
      std::memcpy(bytes.data() + i * sizeof(Elem), &element, sizeof(Elem));
    }
  });
  return bytes;
}

/// Reads tensors of one checkpoint.
class Source {
 public:
  explicit Source(const fs::path& checkpoint)
      : reader_{checkpoint}, biases_{read_router_bias(checkpoint)} {}

  [[nodiscard]] const Manifest& manifest() const { return reader_.manifest(); }
  [[nodiscard]] const WeightReader& reader() const { return reader_; }

  [[nodiscard]] std::vector<float> read(const ExchangeTensor& tensor) const {
    if (tensor.is_router_bias) return bias(tensor);
    std::vector<float> values(static_cast<std::size_t>(tensor.shape.elements()));
    reader_.read({.name = tensor.parameter,
                  .first_row = tensor.first_row,
                  .rows = tensor.rows(),
                  .row_elements = tensor.row_elements()},
                 values);
    return values;
  }

 private:
  /// Zeros for a model that was trained without a balance bias.
  [[nodiscard]] std::vector<float> bias(const ExchangeTensor& tensor) const {
    for (const auto& bias : biases_) {
      if (bias.name == tensor.parameter) return bias.values;
    }
    std::vector<float> zeros(static_cast<std::size_t>(tensor.shape.elements()));
    return zeros;
  }

  WeightReader reader_;
  std::vector<NamedValues> biases_;
};

void write_tensors(const fs::path& folder, const Source& source, const HuggingFaceExport& args) {
  const auto& model = source.manifest().model;
  const auto layout = nn::make_layout(model, nn::whole_model(model));
  source.reader().check(layout.parameters);
  const auto tensors = exchange_tensors(model, layout.parameters);
  const auto dtype_of = [&](const ExchangeTensor& tensor) {
    return tensor.is_router_bias ? DType::f32 : args.dtype;
  };
  std::vector<io::SafeTensor> list;
  list.reserve(tensors.size());
  for (const auto& tensor : tensors) {
    list.push_back({.name = tensor.name, .dtype = dtype_of(tensor), .shape = tensor.shape});
  }
  io::SafeTensorsWriter writer{folder, list, {.max_shard_bytes = args.shard_bytes}};
  for (const auto& tensor : tensors) {
    writer.write(tensor.name, to_bytes(source.read(tensor), dtype_of(tensor)));
  }
  writer.finish();
}

/// Copies the tokenizer and names the token that ends a text, so that transformers stops there.
void write_tokenizer(const fs::path& folder, const fs::path& path, io::Json& config) {
  const auto tokenizer = text::load_tokenizer(path);
  const std::uint32_t eos = tokenizer->eos_id();
  const std::string spelling = tokenizer->decode(std::span{&eos, 1});
  io::write_file_atomically(folder / "tokenizer.json", tokenizer->to_json());
  io::write_json_file(folder / "tokenizer_config.json",
                      {{"tokenizer_class", "PreTrainedTokenizerFast"},
                       {"clean_up_tokenization_spaces", false},
                       {"model_max_length", config.at("max_position_embeddings")},
                       {"eos_token", spelling}});
  config["eos_token_id"] = eos;
  io::write_json_file(folder / "generation_config.json", {{"eos_token_id", eos}});
}

std::string dtype_name(DType dtype) {
  return dtype == DType::f32 ? "float32" : dtype == DType::bf16 ? "bfloat16" : "float16";
}

}  // namespace

void export_huggingface(const HuggingFaceExport& args) {
  require(args.dtype == DType::f32 || args.dtype == DType::bf16 || args.dtype == DType::f16,
          "export.dtype: allowed: f32, bf16, f16");
  require(!fs::exists(args.output), args.output.string() + " exists already: name a new folder");
  const fs::path checkpoint = find_checkpoint(args.checkpoint);
  const Source source{checkpoint};
  io::Json config = to_huggingface(source.manifest().model);
  config["dtype"] = config["torch_dtype"] = dtype_name(args.dtype);
  config["bos_token_id"] = config["eos_token_id"] = config["pad_token_id"] = nullptr;
  io::FolderCommit folder{args.output};
  const fs::path beside = checkpoint / "tokenizer.json";
  const fs::path tokenizer = !args.tokenizer.empty() ? args.tokenizer
                             : fs::exists(beside)    ? beside
                                                     : fs::path{};
  if (!tokenizer.empty()) write_tokenizer(folder.temporary(), tokenizer, config);
  write_tensors(folder.temporary(), source, args);
  io::write_json_file(folder.temporary() / "config.json", config);
  folder.commit();
}

}  // namespace shoal::train
