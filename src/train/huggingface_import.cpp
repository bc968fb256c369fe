#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "shoal/base/error.hpp"
#include "shoal/io/safetensors.hpp"
#include "shoal/nn/model_layout.hpp"
#include "shoal/text/tokenizer.hpp"
#include "shoal/train/checkpoint.hpp"
#include "shoal/train/huggingface.hpp"
#include "train/huggingface_names.hpp"

namespace shoal::train {
namespace {

namespace fs = std::filesystem;

/// InputError that names tensors that are missing, of another shape or unknown.
void check_tensors(const io::SafeTensorsReader& reader, const std::vector<ExchangeTensor>& expected,
                   const std::string& where) {
  std::vector<std::string> problems;
  std::set<std::string> names;
  for (const auto& tensor : expected) {
    names.insert(tensor.name);
    const auto found = reader.find(tensor.name);
    if (!found) {
      problems.push_back(tensor.name + " is missing");
    } else if (found->shape != tensor.shape) {
      problems.push_back(tensor.name + " has shape " + to_string(found->shape) + ", expected " +
                         to_string(tensor.shape));
    }
  }
  for (const auto& tensor : reader.tensors()) {
    if (!names.contains(tensor.name)) problems.push_back(tensor.name + " is not known here");
  }
  if (problems.empty()) return;
  constexpr std::size_t kShown = 10;
  std::string text = where + ": the tensors do not fit config.json:";
  for (std::size_t i = 0; i < std::min(kShown, problems.size()); ++i) text += "\n  " + problems[i];
  if (problems.size() > kShown) {
    text += "\n  and " + std::to_string(problems.size() - kShown) + " more";
  }
  throw InputError{text};
}

/// Elements [first, first + into.size()) of a tensor as fp32.
void read_elements(const io::SafeTensorsReader& reader, const std::string& name, std::int64_t first,
                   std::span<float> into) {
  with_elem(reader.find(name)->dtype, [&]<class Elem>(Elem) {
    std::vector<Elem> raw(into.size());
    reader.read(name, first * static_cast<std::int64_t>(sizeof(Elem)),
                std::as_writable_bytes(std::span{raw}));
    std::transform(raw.begin(), raw.end(), into.begin(), [](Elem x) { return to_float(x); });
  });
}

/// Tensors of one parameter in the order of its rows.
using ByParameter = std::map<std::string, std::vector<ExchangeTensor>>;

/// Fills a window of a parameter's rows from the tensors that hold them.
void fill_window(const io::SafeTensorsReader& tensors, const std::vector<ExchangeTensor>& parts,
                 const RowWindow& window, std::span<float> values) {
  for (const auto& part : parts) {
    const std::int64_t begin = std::max(window.first_row, part.first_row);
    const std::int64_t end = std::min(window.first_row + window.rows, part.first_row + part.rows());
    if (begin >= end) continue;
    const std::int64_t width = window.row_elements;
    read_elements(tensors, part.name, (begin - part.first_row) * width,
                  values.subspan(static_cast<std::size_t>((begin - window.first_row) * width),
                                 static_cast<std::size_t>((end - begin) * width)));
  }
}

std::vector<NamedValues> read_biases(const io::SafeTensorsReader& tensors,
                                     const std::vector<ExchangeTensor>& all) {
  std::vector<NamedValues> biases;
  for (const auto& tensor : all) {
    if (!tensor.is_router_bias) continue;
    std::vector<float> values(static_cast<std::size_t>(tensor.shape.elements()));
    read_elements(tensors, tensor.name, 0, values);
    biases.push_back({tensor.parameter, std::move(values)});
  }
  return biases;
}

}  // namespace

fs::path import_huggingface(const HuggingFaceImport& args) {
  const fs::path config = args.folder / "config.json";
  const nn::ModelConfig model = from_huggingface(io::read_json_file(config), config.string());
  std::vector<std::string> problems;
  nn::validate(model, problems);
  require(problems.empty(), config.string() + ": " + (problems.empty() ? "" : problems.front()));
  const auto layout = nn::make_layout(model, nn::whole_model(model));
  const auto all = exchange_tensors(model, layout.parameters);
  const io::SafeTensorsReader tensors{args.folder};
  check_tensors(tensors, all, args.folder.string());
  ByParameter by_parameter;
  for (const auto& tensor : all) by_parameter[tensor.parameter].push_back(tensor);

  WeightsToWrite weights{.checkpoint = args.run_dir / "step-00000000",
                         .layout = &layout.parameters,
                         .model = model,
                         .router_bias = read_biases(tensors, all),
                         .values = [&](const RowWindow& window, std::span<float> values) {
                           fill_window(tensors, by_parameter.at(window.name), window, values);
                         }};
  require(!fs::exists(weights.checkpoint), weights.checkpoint.string() + " exists already");
  if (const fs::path path = args.folder / "tokenizer.json"; fs::exists(path)) {
    const auto tokenizer = text::load_tokenizer(path);
    weights.tokenizer_hash = tokenizer->hash();
    weights.tokenizer_json = tokenizer->to_json();
  }
  fs::create_directories(args.run_dir);
  write_weights(weights);
  return weights.checkpoint;
}

}  // namespace shoal::train
