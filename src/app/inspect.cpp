#include "app/inspect.hpp"

#include <cstdio>
#include <sstream>

#include "shoal/base/error.hpp"
#include "shoal/data/describe.hpp"
#include "shoal/io/h5_file.hpp"
#include "shoal/text/tokenizer.hpp"
#include "shoal/train/checkpoint.hpp"
#include "shoal/train/huggingface.hpp"
#include "shoal/train/metrics.hpp"

namespace shoal::app {
namespace {

namespace fs = std::filesystem;

std::string model_words(const nn::ModelConfig& c) {
  const nn::ModelSize size = nn::model_size(c, c.max_position_embeddings);
  std::ostringstream text;
  text << c.num_hidden_layers << " layers of width " << c.hidden_size << ", "
       << c.num_attention_heads << " heads of " << c.head_dim << " in " << c.num_key_value_heads
       << " groups, ";
  if (c.num_experts > 1) {
    text << c.num_experts << " experts (" << c.num_experts_per_tok << " a token, " << c.router
         << " router, width " << c.moe_intermediate_size << ")";
    if (c.n_shared_experts > 0) text << ", a shared expert";
    if (c.first_k_dense_replace > 0) text << ", " << c.first_k_dense_replace << " dense layers";
  } else {
    text << "dense, MLP of width " << c.intermediate_size;
  }
  text << ", vocabulary of " << c.vocab_size << ", up to " << c.max_position_embeddings
       << " tokens";
  if (c.dynamic_heads.enabled) text << ", dynamic heads";
  text << "\n  parameters: " << size.total << ", " << size.active << " active per token";
  return text.str();
}

std::string describe_checkpoint(const fs::path& path) {
  const train::Manifest m = train::read_manifest(path);
  std::int64_t bytes = 0;
  for (const auto& file : m.files) bytes += file.bytes;
  std::ostringstream text;
  text << path.string() << ": checkpoint after step " << m.step << ", shoal " << m.code_version
       << "\n  model: " << model_words(m.model) << "\n  precision: " << m.precision
       << "\n  optimizer: " << (m.optimizer.empty() ? "none (weights only)" : m.optimizer)
       << "\n  layout of the writer: " << m.layout
       << "\n  tokenizer: " << (m.tokenizer_hash.empty() ? "unknown" : m.tokenizer_hash)
       << "\n  files: " << m.files.size() << ", " << bytes << " bytes; sizes are right";
  train::verify_hashes(path, m);
  text << ", so are the hashes\n  weights: index.h5, /weights/NAME, fp32\n";
  return text.str();
}

/// "f32 [8, 16]" of a dataset; empty for a group.
std::string dataset_words(const io::H5File& file, const std::string& path) {
  try {
    const io::H5Dataset dataset = file.dataset(path);
    return std::string{io::name(dataset.type())} + " " + to_string(dataset.shape()) +
           (dataset.is_virtual() ? ", virtual" : "");
  } catch (const InputError&) {
    return {};
  }
}

void list_group(const io::H5File& file, const std::string& group, std::string& text) {
  for (const auto& name : file.list(group.empty() ? "/" : group)) {
    const std::string path = group + "/" + name;
    if (const std::string words = dataset_words(file, path); !words.empty()) {
      text.append("  ").append(path).append("  ").append(words).append("\n");
    } else {
      list_group(file, path, text);
    }
  }
}

std::string last_words(const train::MetricsTable& table) {
  char line[256];
  std::string text;
  if (!table.steps.empty()) {
    const train::StepRow& row = table.steps.back();
    std::snprintf(line, sizeof line,
                  "  last step %lld: loss %.4f, gradient norm %.3f, lr %.3g, %.0f tokens/s\n",
                  static_cast<long long>(row.step), row[train::Column::loss],
                  row[train::Column::grad_norm], row[train::Column::lr],
                  row[train::Column::tokens_per_second]);
    text += line;
  }
  if (!table.validations.empty()) {
    const auto& row = table.validations.back();
    std::snprintf(line, sizeof line, "  last validation, step %lld: loss %.4f, perplexity %.3f\n",
                  static_cast<long long>(row.step), row.loss, row.perplexity);
    text += line;
  }
  return text;
}

}  // namespace

std::string describe_run(const fs::path& path) {
  if (fs::exists(path / "manifest.json")) return describe_checkpoint(path);
  const auto checkpoints = train::list_checkpoints(path);
  const fs::path journal = path / "metrics.journal";
  require(!checkpoints.empty() || fs::exists(journal),
          path.string() + ": no dataset, run, checkpoint or exported model");
  std::string text = path.string() + ": a run with " + std::to_string(checkpoints.size()) +
                     " complete checkpoints\n";
  if (fs::exists(journal)) text += describe_metrics(journal);
  if (!checkpoints.empty()) text += describe_checkpoint(checkpoints.front());
  return text;
}

std::string describe_prepared(const fs::path& folder) {
  std::string text;
  for (const char* part : {"train", "val"}) {
    if (data::is_token_data(folder / part)) text += data::describe(folder / part) + "\n";
  }
  const fs::path tokenizer = folder / "tokenizer.json";
  if (!text.empty() && fs::exists(tokenizer)) text += describe_tokenizer(tokenizer);
  return text;
}

std::string describe_huggingface(const fs::path& folder) {
  const fs::path config = folder / "config.json";
  const auto model = train::from_huggingface(io::read_json_file(config), config.string());
  return folder.string() + ": a model in the Hugging Face layout\n  " + model_words(model) + "\n";
}

std::string describe_tokenizer(const fs::path& path) {
  const auto tokenizer = text::load_tokenizer(path);
  const std::uint32_t eos = tokenizer->eos_id();
  std::vector<std::uint32_t> ids;
  const std::string sample = "The quick brown fox jumps over the lazy dog.";
  tokenizer->encode(sample, ids);
  return path.string() + ": a tokenizer of " + std::to_string(tokenizer->vocab_size()) +
         " ids\n  hash " + tokenizer->hash() + "\n  a document ends with " +
         tokenizer->decode(std::span{&eos, 1}) + " (" + std::to_string(eos) + ")\n  \"" + sample +
         "\" is " + std::to_string(ids.size()) + " tokens\n";
}

std::string describe_metrics(const fs::path& journal) {
  const train::MetricsTable table = train::read_journal(journal);
  std::ostringstream text;
  text << journal.string() << ": " << table.steps.size() << " steps, " << table.validations.size()
       << " validations, " << table.routers.size() << " rows of the router ledger ("
       << table.router.layers << " layers of " << table.router.experts << " experts)\n"
       << last_words(table);
  return text.str();
}

std::string describe_h5(const fs::path& path) {
  const io::H5File file = io::H5File::open(path);
  std::string text = path.string() + ": HDF5\n";
  list_group(file, "", text);
  const fs::path journal = path.parent_path() / "metrics.journal";
  if (path.filename() == "metrics.h5" && fs::exists(journal)) text += describe_metrics(journal);
  return text;
}

}  // namespace shoal::app
