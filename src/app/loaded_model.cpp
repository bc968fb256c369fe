#include "app/loaded_model.hpp"

#include "shoal/base/error.hpp"
#include "shoal/tensor/tensor.hpp"

namespace shoal::app {

LoadedModel::LoadedModel(const Exec& exec, const nn::ModelConfig& config, DType elem)
    : layout_{nn::make_layout(config, nn::whole_model(config))},
      store_{exec, layout_.parameters, elem, /*gradients=*/false},
      state_{nn::make_model_state(exec, config)},
      dispatcher_{config.num_experts, config.capacity_factor},
      model_{{.config = config,
              .compute = nn::ComputeConfig{},
              .layout = layout_.stages.front(),
              .store = store_,
              .state = state_,
              .groups = {.tensor = &tensor_group_, .dispatcher = &dispatcher_}}} {}

void LoadedModel::load(const Exec& exec, const std::filesystem::path& checkpoint) const {
  const train::WeightReader reader{checkpoint};
  reader.check(layout_.parameters);
  train::load_weights(exec, reader, store_);
  const auto biases = train::read_router_bias(checkpoint);
  for (const nn::NamedView& target : state_.checkpointed()) {
    for (const train::NamedValues& bias : biases) {
      if (bias.name == target.name) {
        upload_values(exec, target.view, std::span<const float>{bias.values});
      }
    }
  }
}

std::unique_ptr<text::Tokenizer> tokenizer_of(const std::filesystem::path& checkpoint,
                                              const std::string& given) {
  const std::filesystem::path path =
      given.empty() ? checkpoint / "tokenizer.json" : std::filesystem::path{given};
  require(std::filesystem::exists(path),
          path.string() + ": no such file; name a tokenizer with --tokenizer=FILE");
  auto tokenizer = text::load_tokenizer(path);
  const auto manifest = train::read_manifest(checkpoint);
  require(manifest.tokenizer_hash.empty() || manifest.tokenizer_hash == tokenizer->hash(),
          path.string() + ": another tokenizer than the model was trained with (hash " +
              tokenizer->hash() + ", expected " + manifest.tokenizer_hash + ")");
  return tokenizer;
}

}  // namespace shoal::app
