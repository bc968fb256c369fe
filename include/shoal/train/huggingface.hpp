#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "shoal/io/json.hpp"
#include "shoal/nn/model_config.hpp"
#include "shoal/tensor/dtype.hpp"

/// Exchange of models with Hugging Face transformers: a folder with config.json, safetensors files
/// with their index, and tokenizer.json. A model with a softmax router is a Qwen3-MoE, one with a
/// sigmoid router a GLM-4-MoE, a dense one a Qwen3.
namespace shoal::train {

/// config.json of `model` (transformers 5, and the older spelling of the keys that changed).
/// InputError lists everything that the layout cannot express, each with the reason.
[[nodiscard]] io::Json to_huggingface(const nn::ModelConfig& model);

/// The model that a config.json describes. InputError names `what` and every key whose value
/// cannot be expressed here.
[[nodiscard]] nn::ModelConfig from_huggingface(const io::Json& config, std::string_view what);

struct HuggingFaceExport {
  std::filesystem::path checkpoint;  ///< a checkpoint folder or a run folder
  std::filesystem::path output;      ///< folder to create; it appears complete or not at all
  DType dtype = DType::f32;          ///< f32 | bf16 | f16
  std::int64_t shard_bytes = std::int64_t{4} << 30;  ///< a new file begins beyond
  std::filesystem::path tokenizer;  ///< tokenizer.json to copy; empty: the checkpoint's, if any
};
/// Memory: twice the largest tensor.
void export_huggingface(const HuggingFaceExport& args);

struct HuggingFaceImport {
  std::filesystem::path folder;   ///< config.json, *.safetensors, optional tokenizer.json
  std::filesystem::path run_dir;  ///< gets step-00000000, which --init-from and eval take
};
/// Returns the checkpoint's folder.
std::filesystem::path import_huggingface(const HuggingFaceImport& args);

}  // namespace shoal::train
